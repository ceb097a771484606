{{ config(materialized='incremental', incremental_strategy='rest_of_series', unique_key=['id', 'tf', 'bar_seq', 'day']) }}

{{ price_bars_anchored('us') }}
