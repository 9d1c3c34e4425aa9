import pytest

from changeproof_spark.settings import Settings, Wrong


def test_what_is_wrong_is_said():
    for given, words in [
        ({"name": "a"}, "topics must be given"),
        ({}, "name and topics must be given"),
        ({"name": "a", "topics": "t", "colour": "red"}, "no setting colour"),
        ({"name": "a", "topics": "t", "on_type_change": "ignore"}, "on_type_change is one of stop, replace"),
    ]:
        with pytest.raises(Wrong, match=words):
            Settings.of(given)


def test_settings_survive_being_kept():
    settings = Settings.of({"name": "a", "topics": "t", "kafka": {"bootstrap.servers": "k:9092"}})
    assert Settings.of(settings.as_json()) == settings
