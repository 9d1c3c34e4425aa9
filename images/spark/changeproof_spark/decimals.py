"""Decimals as Connect writes them: the unscaled number's bytes in base 64, the highest first, in two's complement
(`org.apache.kafka.connect.data.Decimal`)."""

import base64
from decimal import Context, Decimal


def decimal_text(encoded, scale):
    """The number with all digits of its scale; None for none, and for what is no base 64."""
    if encoded is None or scale is None:
        return None
    try:
        unscaled = int.from_bytes(base64.b64decode(encoded, validate=True), "big", signed=True)
    except ValueError:
        return None
    number = Decimal(unscaled).scaleb(-scale, context=Context(prec=200_000, Emin=-200_000, Emax=200_000))
    return format(number, "f")


def register(spark):
    """Gives a session the function `decimal_text` of SQL."""
    from pyspark.sql.types import StringType

    spark.udf.register("decimal_text", decimal_text, StringType())
