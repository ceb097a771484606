{{ config(materialized='incremental', incremental_strategy='rest_of_series', unique_key=['id', 'scheme', 'tf', 'bar_seq', 'ts', 'roll']) }}

{{ ema_of_bars('multi_tf', {'all': ref('price_bars_multi_tf')}) }}
