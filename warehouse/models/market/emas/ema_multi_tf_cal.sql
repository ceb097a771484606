{{ config(materialized='incremental', incremental_strategy='rest_of_series', unique_key=['id', 'scheme', 'tf', 'bar_seq', 'ts', 'roll']) }}

{{ ema_of_bars('cal', {'iso': ref('price_bars_cal_iso'), 'us': ref('price_bars_cal_us')}) }}
