SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY _cdc.key ORDER BY _cdc.offset DESC) AS place FROM customers
) WHERE place = 1 AND _cdc.op <> 'D'
