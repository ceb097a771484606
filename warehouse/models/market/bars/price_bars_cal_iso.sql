{{ config(materialized='incremental', incremental_strategy='rest_of_series', unique_key=['id', 'tf', 'bar_seq']) }}

{{ price_bars('cal', 'iso') }}
