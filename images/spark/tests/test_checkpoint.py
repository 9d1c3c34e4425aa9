from changeproof_spark.session import BRIEF, session


def test_a_query_that_ended_while_it_wrote_down_its_first_batch_starts_again(tmp_path):
    arriving, offsets = tmp_path / "arriving", tmp_path / "checkpoint" / "offsets"
    arriving.mkdir()
    offsets.mkdir(parents=True)
    (arriving / "rows.txt").write_text("row\n")
    (offsets / ".0.7c1f4a9e-0b57-4a53-9d3c-d2a55a7f0c11.tmp").touch()
    spark = session({"type": "hadoop", "warehouse": str(tmp_path / "lake")}, BRIEF)
    try:
        writer = spark.readStream.text(str(arriving)).writeStream.format("noop").trigger(availableNow=True)
        query = writer.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
        query.awaitTermination(120)
        assert query.exception() is None
        assert (offsets / "0").exists()
    finally:
        spark.stop()
