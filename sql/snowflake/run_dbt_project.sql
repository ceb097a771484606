-- RUN_DBT_PROJECT: the one place where dbt is called; put another call here when yours differs.
--   project_name  the DBT PROJECT object, as it may be written without quotes: shop, my_schema.shop, my_db.my_schema.shop
--   args          what would follow `dbt` on a command line
-- ARGS takes a literal alone, so the statement is put together; a quote and a backslash in args stay inside of it.
CREATE OR REPLACE PROCEDURE sluice.run_dbt_project(project_name VARCHAR, args VARCHAR)
RETURNS VARCHAR
LANGUAGE SQL
COMMENT = 'runs a DBT PROJECT object with the arguments of a dbt command line'
EXECUTE AS CALLER
AS
$$
DECLARE
    not_a_name EXCEPTION (-20002, 'the name of a DBT PROJECT is one to three identifiers without quotes: my_db.my_schema.shop');
    statement VARCHAR;
BEGIN
    IF (NOT REGEXP_LIKE(:project_name, '[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*){0,2}')) THEN
        RAISE not_a_name;
    END IF;
    statement := 'EXECUTE DBT PROJECT ' || project_name || ' ARGS = '''
        || REPLACE(REPLACE(args, CHR(92), CHR(92) || CHR(92)), '''', '''''') || '''';
    EXECUTE IMMEDIATE :statement;
    RETURN statement;
END;
$$;
