//! Types: what each method makes of the values that MySQL can hold, read by its initial snapshot and from the log. What the database itself
//! prints is the measure.

use changeproof::{Value, mysql::from_text};

use crate::prelude::*;

/// Where Maxwell describes what its values look like.
const MAXWELLS_FORMAT: &str = "https://maxwells-daemon.io/dataformat/";

/// Where Debezium describes what its values look like.
const DEBEZIUMS_MANUAL: &str = "https://debezium.io/documentation/reference/3.5/connectors/mysql.html";

/// Two rows that are told wrong: one that is read, and one of the log.
const BOTH_ROWS: [FaultKind; 4] =
    [FaultKind::WrongValue, FaultKind::WrongValue, FaultKind::WrongState, FaultKind::WrongState];

/// One of them alone.
const ONE_ROW: [FaultKind; 2] = [FaultKind::WrongValue, FaultKind::WrongState];

/// A table with a row of these values and another of NULLs, that are there when the capture begins, and two like them that come later.
async fn rows_of(s: &mut Scenario, columns: &[(&str, Type, &str)]) -> Result<()> {
    fill(s, columns).await?;
    s.judge().await
}

/// The same, of which Maxwell tells another value.
async fn flawed_rows_of(s: &mut Scenario, columns: &[(&str, Type, &str)]) -> Result<()> {
    fill(s, columns).await?;
    s.judge_known_flaw("maxwell", MAXWELLS_FORMAT, &ONE_ROW).await
}

async fn fill(s: &mut Scenario, columns: &[(&str, Type, &str)]) -> Result<()> {
    let samples = table("samples").key("id", Int);
    let samples = columns.iter().fold(samples, |table, (name, ty, _)| table.column(name, ty.clone()));
    let samples = s.create(samples).await?;
    let values = || columns.iter().map(|(name, ty, text)| ((*name).to_owned(), stored(text, ty)));
    let row = |id: i32| std::iter::once(("id".to_owned(), Value::from(id))).chain(values()).collect();

    s.apply_all([samples.insert(row(1)), samples.insert(row! { id: 2 })]).await?;
    s.start_capture().await?;
    s.apply_all([samples.insert(row(3)), samples.insert(row! { id: 4 })]).await
}

/// The value that the text stands for; bits are written as digits.
fn stored(text: &str, ty: &Type) -> Value {
    match ty {
        Other(name) if name.starts_with("bit") => text.into(),
        _ => from_text(text.as_bytes(), ty),
    }
}

/// One column of each common type, delivered as the database itself prints it.
#[scenario(initial_snapshot = "!maxwell")]
async fn common_types(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("truth", Bool, "1"),
            ("small", SmallInt, "-32768"),
            ("large", BigInt, "9007199254740993"),
            ("real", Real, "0.1"),
            ("double", Double, "1e-300"),
            ("exact", Numeric(Some((12, 4))), "12345678.9000"),
            ("code", Varchar(8), "Köln"),
            ("text", Text, "東京"),
            ("raw", Bytes, "\0\u{1}a"),
            ("day", Date, "1969-12-31"),
            ("local", Timestamp, "2024-02-29 23:59:59.999999"),
            ("moment", TimestampTz, "2024-07-01 12:00:00"),
            ("json", Json, r#"{"a": [1, 2.5, null]}"#),
        ],
    )
    .await
}

/// Integers without a sign reach twice as far. ZEROFILL pads with zeros when the value is printed,
/// and is no part of it.
#[scenario(initial_snapshot = "!maxwell")]
async fn unsigned_integers(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("tiny", other("tinyint unsigned"), "255"),
            ("small", other("smallint unsigned"), "65535"),
            ("medium", other("mediumint unsigned"), "16777215"),
            ("medium_signed", other("mediumint"), "-8388608"),
            ("whole", other("int unsigned"), "4294967295"),
            ("big", other("bigint unsigned"), "9223372036854775807"),
            ("filled", other("int(10) unsigned zerofill"), "42"),
            ("tiny_signed", other("tinyint"), "-128"),
        ],
    )
    .await
}

/// Integers without a sign beyond those with one, up to 18446744073709551615. Debezium makes negative numbers of them unless
/// `bigint.unsigned.handling.mode` says otherwise.
#[scenario(initial_snapshot = "!maxwell")]
async fn unsigned_integers_beyond_the_signed(s: &mut Scenario) -> Result<()> {
    let counters = s.create(table("counters").key("id", Int).column("count", other("bigint unsigned"))).await?;
    s.apply(counters.insert(row! { id: 1, count: u64::MAX })).await?;
    s.start_capture().await?;

    s.apply(counters.insert(row! { id: 2, count: u64::MAX })).await?;

    s.judge_known_flaw("debezium", DEBEZIUMS_MANUAL, &BOTH_ROWS).await
}

/// The year 0000, which stands for none. Debezium and Maxwell take it for the year 1900.
#[scenario]
async fn year_zero(s: &mut Scenario) -> Result<()> {
    let wines = s.create(wines()).await?;
    s.start_capture().await?;

    s.apply(wines.insert(row! { id: 1, vintage: "0000" })).await?;

    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", DEBEZIUMS_MANUAL, &ONE_ROW),
        KnownFlaw::of("maxwell", MAXWELLS_FORMAT, &ONE_ROW),
    ])
    .await
}

fn wines() -> TableBuilder {
    table("wines").key("id", Int).column("vintage", other("year"))
}

/// The same year in a row that is there when the capture begins. Debezium's initial snapshot takes it for the year 2000.
#[scenario(initial_snapshot, on = "MySQL")]
async fn year_zero_that_is_read(s: &mut Scenario) -> Result<()> {
    let wines = s.create(wines()).await?;
    s.apply(wines.insert(row! { id: 1, vintage: "0000" })).await?;
    s.start_capture().await?;

    s.apply(wines.insert(row! { id: 2, vintage: "2024" })).await?;

    s.judge_known_flaw("debezium", DEBEZIUMS_MANUAL, &ONE_ROW).await
}

/// Debezium's initial snapshot of MariaDB ends at it.
#[scenario(initial_snapshot, on = "MariaDB", only = "debezium", why = "others read it, or are shown in the log")]
async fn year_zero_that_ends_a_snapshot(s: &mut Scenario) -> Result<()> {
    let wines = s.create(wines()).await?;
    s.apply(wines.insert(row! { id: 1, vintage: "0000" })).await?;

    s.must_refuse_to_start(&[("debezium", "java.lang.IllegalArgumentException")]).await
}

/// Bits, and years of one byte.
#[scenario(initial_snapshot = "!maxwell")]
async fn bits_and_years(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("flag", other("bit(1)"), "1"),
            ("mask", other("bit(10)"), "1000000001"),
            ("wide", other("bit(64)"), "1000000000000000000000000000000000000000000000000000000000000001"),
            ("year", other("year"), "2155"),
        ],
    )
    .await
}

/// A time is a span, and reaches from -838:59:59 to 838:59:59. Maxwell takes it for a time of day.
#[scenario(initial_snapshot = "!maxwell")]
async fn times_beyond_a_day(s: &mut Scenario) -> Result<()> {
    flawed_rows_of(
        s,
        &[
            ("noon", other("time"), "12:00:00"),
            ("longest", other("time"), "838:59:59"),
            ("back", other("time"), "-838:59:59"),
            ("micros", other("time(6)"), "-00:00:00.000001"),
            ("millis", other("time(3)"), "100:00:00.120"),
        ],
    )
    .await
}

/// Numbers of 32 bits have more digits than the six that the server prints of them. Who reads tables by their texts gets no more.
#[scenario(initial_snapshot = "!maxwell")]
async fn floats_of_seven_digits(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("value", Real)).await?;
    let from = |first: i32| {
        let rows = (first..).zip(["0.1", "8388609", "-3.664625e-20"]);
        rows.map(|(id, text)| readings.insert(row! { id: id, value: stored(text, &Real) })).collect::<Vec<_>>()
    };
    s.apply_all(from(1)).await?;
    s.start_capture().await?;

    s.apply_all(from(11)).await?;

    s.judge_known_flaw("debezium", DEBEZIUMS_MANUAL, &BOTH_ROWS).await
}

/// As many digits of a second as the column has. A column without any rounds to the next second.
#[scenario(initial_snapshot = "!maxwell")]
async fn fractional_seconds(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("second", other("datetime"), "2024-02-29 23:59:59"),
            ("tenth", other("datetime(1)"), "2024-02-29 23:59:59.1"),
            ("millis", other("datetime(3)"), "2024-02-29 23:59:59.120"),
            ("micros", Timestamp, "2024-02-29 23:59:59.000001"),
            ("moment", other("timestamp"), "2038-01-19 03:14:07"),
            ("moment_millis", other("timestamp(3)"), "1970-01-01 00:00:01.999"),
        ],
    )
    .await
}

/// Dates from the year 1000 to the year 9999.
#[scenario(initial_snapshot = "!maxwell")]
async fn dates_far_away(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("first_day", Date, "1000-01-01"),
            ("last_day", Date, "9999-12-31"),
            ("first", other("datetime(3)"), "1000-01-01 00:00:00.000"),
            ("last", Timestamp, "9999-12-31 23:59:59.999999"),
        ],
    )
    .await
}

/// Dates before the year 100, which MySQL takes but doesn't vouch for. Debezium adds the century that MySQL would add to a year of
/// two digits, unless `enable.time.adjuster` is off.
#[scenario(initial_snapshot = "!maxwell")]
async fn dates_before_the_year_100(s: &mut Scenario) -> Result<()> {
    let ruins = table("ruins").key("id", Int).column("built_on", Date).column("burnt_at", Timestamp);
    let ruins = s.create(ruins).await?;
    let ruin = |id: i32| ruins.insert(row! { id: id, built_on: "0069-12-21", burnt_at: "0070-08-10 12:00:00" });
    s.apply(ruin(1)).await?;
    s.start_capture().await?;

    s.apply(ruin(2)).await?;

    s.judge_known_flaw("debezium", DEBEZIUMS_MANUAL, &BOTH_ROWS).await
}

/// ENUM and SET are kept as numbers, whose meaning stands in the table's definition. An empty set is not NULL.
/// Maxwell doubles the quotes in a member, as the definition does, and tells a set as a list.
#[scenario(initial_snapshot = "!maxwell")]
async fn enums_and_sets(s: &mut Scenario) -> Result<()> {
    flawed_rows_of(
        s,
        &[
            ("size", other("enum('small','it''s large','größer')"), "größer"),
            ("quoted", other("enum('small','it''s large')"), "it's large"),
            ("tags", other("set('a','b','c')"), "a,c"),
            ("none", other("set('a','b','c')"), ""),
        ],
    )
    .await
}

/// So many members, as a type lists them.
fn members(count: usize) -> String {
    (1..=count).map(|number| format!("'m{number}'")).collect::<Vec<_>>().join(",")
}

/// More members than a byte can number, and as many as a SET can have.
#[scenario(initial_snapshot = "!maxwell")]
async fn enums_and_sets_of_many_members(s: &mut Scenario) -> Result<()> {
    let (kind, tags) = (other(&format!("enum({})", members(300))), other(&format!("set({})", members(64))));
    let parts = s.create(table("parts").key("id", Int).column("kind", kind).column("tags", tags)).await?;
    let all = members(64).replace('\'', "");
    let values = [("m1", "m1"), ("m255", "m64"), ("m256", "m8,m9,m64"), ("m300", &all)];
    let from = |first: i32| {
        let rows = (first..).zip(values);
        rows.map(|(id, (kind, tags))| parts.insert(row! { id: id, kind: kind, tags: tags })).collect::<Vec<_>>()
    };
    s.apply_all(from(11)).await?;
    s.start_capture().await?;

    s.apply_all(from(1)).await?;
    s.apply(parts.update(1, row! { kind: "m300", tags: "m63" })).await?;

    s.judge().await
}

/// What is no member becomes an empty text with the number 0 where errors are warnings: by INSERT IGNORE, and in a session whose
/// `sql_mode` isn't strict. Maxwell tells it as NULL.
#[scenario(initial_snapshot = "!maxwell")]
async fn enum_value_that_is_no_member(s: &mut Scenario) -> Result<()> {
    let shirts = s.create(table("shirts").key("id", Int).column("size", other("enum('small','large')"))).await?;
    let none = |id: i32| [shirts.insert(row! { id: id, size: "" })];
    s.apply(raw("INSERT IGNORE INTO shirts (id, size) VALUES (3, 'huge')", none(3))).await?;
    s.start_capture().await?;

    s.apply(raw("INSERT IGNORE INTO shirts (id, size) VALUES (1, 'huge')", none(1))).await?;
    s.apply(raw("SET SESSION sql_mode = 'ANSI_QUOTES'", [])).await?;
    s.apply(raw("INSERT INTO shirts (id, size) VALUES (2, 'huge')", none(2))).await?;
    s.catch_up().await?;
    s.apply(shirts.update(1, row! { size: "large" })).await?;

    let (value, image, state) = (FaultKind::WrongValue, FaultKind::WrongBeforeImage, FaultKind::WrongState);
    let reference = "https://maxwells-daemon.io/dataformat/";
    s.judge_known_flaws(&[KnownFlaw::of("maxwell", reference, &[value, value, image, state])]).await
}

/// A point as both servers keep it: behind the number of its reference system, which is 0.
fn point(x: f64, y: f64) -> Value {
    let (x, y) = (x.to_le_bytes(), y.to_le_bytes());
    Value::Bytes([&[0, 0, 0, 0, 1, 1, 0, 0, 0][..], &x, &y].concat())
}

/// A place among texts. The server describes columns kind by kind, and what it says of a point must not be taken for what it says of the
/// texts behind it.
#[scenario(
    initial_snapshot,
    only = "binlog, polling",
    why = "it tells geometries in a form of its own, which isn't compared"
)]
async fn points_among_texts(s: &mut Scenario) -> Result<()> {
    let towns = table("towns").key("id", Int).column("place", other("point"));
    let towns = s.create(towns.column("name", Varchar(20)).column("note", Varchar(20))).await?;
    let above_it = "INSERT INTO towns (id, place, name, note) VALUES (3, POINT(6.96, 50.95), 'Nippes', 'north')";
    let means = [towns.insert(row! { id: 3, place: point(6.96, 50.95), name: "Nippes", note: "north" })];
    s.apply(raw(above_it, means)).await?;
    s.start_capture().await?;

    let insert = "INSERT INTO towns (id, place, name, note) VALUES (1, POINT(6.96, 50.94), 'Köln', 'on the Rhine')";
    let means = [towns.insert(row! { id: 1, place: point(6.96, 50.94), name: "Köln", note: "on the Rhine" })];
    s.apply(raw(insert, means)).await?;
    s.apply(towns.insert(row! { id: 2, name: "東京", note: "nowhere" })).await?;
    s.catch_up().await?;
    s.apply(towns.update(1, row! { note: "with a cathedral" })).await?;
    s.apply(towns.delete(2)).await?;

    s.judge().await
}

/// Documents, in MySQL's own order of keys, with what JSON doesn't have: decimals, dates and times. Debezium writes them without
/// blanks, large numbers with all their digits, and times without a fraction of zeros.
#[scenario(initial_snapshot = "!maxwell", on = "MySQL")]
async fn documents(s: &mut Scenario) -> Result<()> {
    let notes = s.create(table("notes").key("id", Int).column("body", Json)).await?;
    write_documents(s, &notes, 1).await?;
    s.start_capture().await?;

    write_documents(s, &notes, 11).await?;

    s.judge_known_flaw("debezium", DEBEZIUMS_MANUAL, &BOTH_ROWS).await
}

/// Documents with numbers from this one on.
async fn write_documents(s: &mut Scenario, notes: &TableRef, first: i32) -> Result<()> {
    let common = [
        r#"{"b": 1, "aa": [true, null, "x"]}"#,
        r#""a \"quote\", a \\ and ä\n""#,
        "[]",
        "[1e100, 1.0, -0.5, 18446744073709551615, -9223372036854775808]",
        "null",
    ];
    for (id, body) in (first..).zip(common) {
        s.apply(notes.insert(row! { id: id, body: body })).await?;
    }
    let id = first + 5;
    let sql = format!(
        "INSERT INTO notes (id, body) VALUES ({id}, JSON_OBJECT('d', CAST(1.50 AS DECIMAL(10, 2)), 't', TIME '10:11:12', \
         'at', TIMESTAMP '2024-02-29 12:00:00', 'on', DATE '2024-02-29'))"
    );
    let body = r#"{"d": 1.50, "t": "10:11:12.000000", "at": "2024-02-29 12:00:00.000000", "on": "2024-02-29"}"#;
    s.apply(raw(&sql, [notes.insert(row! { id: id, body: body })])).await
}

/// A document of which a function changes a part. The log holds the whole document unless `binlog_row_value_options` says
/// otherwise.
#[scenario]
async fn part_of_a_document(s: &mut Scenario) -> Result<()> {
    let notes = s.create(table("notes").key("id", Int).column("body", Json)).await?;
    s.start_capture().await?;

    s.apply(notes.insert(row! { id: 1, body: r#"{"a": 1, "b": "long"}"# })).await?;
    s.catch_up().await?;
    let changed = notes.update(1, row! { body: r#"{"a": 2, "b": "long"}"# });
    s.apply(raw("UPDATE notes SET body = JSON_SET(body, '$.a', 2) WHERE id = 1", [changed])).await?;

    s.judge().await
}

/// Texts in other character sets, of fixed length, and of four bytes for a letter.
#[scenario(initial_snapshot = "!maxwell")]
async fn texts(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("western", other("varchar(5) CHARACTER SET latin1"), "Köln€"),
            ("wide", other("varchar(5) CHARACTER SET utf16"), "ä🏯"),
            ("emoji", Varchar(3), "🏯🏯🏯"),
            ("fixed", other("char(5)"), "ab"),
            ("tiny", other("tinytext"), "tiny"),
            ("free", Text, "line\nbreak\ttab \\ backslash 'quote' \"double\" 𝄞"),
            ("empty", Text, ""),
        ],
    )
    .await
}

/// Letters of four bytes up to the limit of their column. One of 63 letters may have 252 bytes, and its length stands in one byte of
/// the log; one of 64 may have 256, and needs two. A letter too many, and one that the column's character set hasn't, are refused.
#[scenario(initial_snapshot = "!maxwell")]
async fn emoji_at_the_limit(s: &mut Scenario) -> Result<()> {
    let notes = table("notes").key("id", Int).column("in_one_byte", Varchar(63)).column("in_two", Varchar(64));
    let notes = notes.column("tiny", other("tinytext")).column("western", other("varchar(5) CHARACTER SET latin1"));
    let notes = s.create(notes).await?;
    let castles = |count: usize| "🏯".repeat(count);
    let longest =
        |id: i32| notes.insert(row! { id: id, in_one_byte: castles(63), in_two: castles(64), tiny: castles(63) });
    s.apply(longest(4)).await?;
    s.start_capture().await?;

    s.apply(longest(1)).await?;
    s.apply(notes.insert(row! { id: 2, in_one_byte: "🏯", in_two: "🏯", tiny: "🏯", western: "Köln" })).await?;
    s.refused(notes.insert(row! { id: 3, in_one_byte: castles(64) }), "Data too long").await?;
    s.refused(notes.insert(row! { id: 3, in_two: castles(65) }), "Data too long").await?;
    s.refused(notes.insert(row! { id: 3, western: "🏯" }), "Incorrect string value").await?;

    s.judge().await
}

/// Bytes of a fixed number are padded with zeros, which the log leaves out.
#[scenario(initial_snapshot = "!maxwell")]
async fn bytes(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("fixed", other("binary(4)"), "ab\0\0"),
            ("limited", other("varbinary(4)"), "ab\0"),
            ("free", Bytes, "\0\u{1}"),
            ("empty", Bytes, ""),
        ],
    )
    .await
}

/// Decimals up to 65 digits.
#[scenario(initial_snapshot = "!maxwell")]
async fn decimals_at_their_limits(s: &mut Scenario) -> Result<()> {
    let digits = "9".repeat(65);
    let fraction = format!("0.{}", "0".repeat(29) + "1");
    rows_of(
        s,
        &[
            ("longest", Numeric(Some((65, 0))), &digits),
            ("smallest", Numeric(Some((30, 30))), &fraction),
            ("negative", Numeric(Some((10, 2))), "-99999999.99"),
            ("small", Numeric(Some((10, 2))), "-0.01"),
            ("zero", Numeric(Some((10, 2))), "0.00"),
        ],
    )
    .await
}

/// Dates with zeros in them, which older applications write and a strict `sql_mode` refuses. Debezium makes NULL of them, or
/// the first of January 1970 where a column takes no NULL; Maxwell makes all of a date zero whose month or day is.
#[scenario(initial_snapshot = "!maxwell")]
async fn zero_dates(s: &mut Scenario) -> Result<()> {
    let events = table("events").key("id", Int).column_not_null("day", Date).column("at", Timestamp);
    let events = s.create(events.column("moment", other("timestamp"))).await?;
    s.apply(raw("SET SESSION sql_mode = 'ANSI_QUOTES'", [])).await?;
    let never = "0000-00-00 00:00:00";
    let all_zero = |id: i32| events.insert(row! { id: id, day: "0000-00-00", at: never, moment: never });
    let in_part = |id: i32| events.insert(row! { id: id, day: "2024-00-00", at: "2024-05-00 12:00:00" });
    s.apply_all([all_zero(1), in_part(2)]).await?;
    s.start_capture().await?;

    s.apply_all([all_zero(3), in_part(4)]).await?;

    let (value, state) = (FaultKind::WrongValue, FaultKind::WrongState);
    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", DEBEZIUMS_MANUAL, &[value, value, value, value, state, state, state, state]),
        KnownFlaw::of("maxwell", MAXWELLS_FORMAT, &[value, state]),
    ])
    .await
}
