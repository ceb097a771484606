-- event_seq: the order of writing, of run_event and model_event.
CREATE SEQUENCE event_seq;
