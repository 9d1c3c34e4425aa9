//! Types: what each method makes of the values that PostgreSQL can hold, read by its initial snapshot and from the log. What the database
//! itself prints is the measure.

use changeproof::{Value, schema::Type};

use crate::prelude::*;

/// Debezium reads existing rows by the driver's conversions, which it doesn't use for the log.
const DEBEZIUMS_READS: &str =
    "https://debezium.io/documentation/reference/3.5/connectors/postgresql.html#postgresql-temporal-types";

/// Whatever form its records have.
async fn judge_moved_by_the_snapshot(s: &mut Scenario) -> Result<()> {
    let kinds = [FaultKind::WrongValue, FaultKind::WrongState];
    let flaws = ["debezium", "avro", "json_schema"].map(|method| KnownFlaw::of(method, DEBEZIUMS_READS, &kinds));
    s.judge_known_flaws(&flaws).await
}

/// A type as PostgreSQL spells it.
fn other(name: &str) -> Type {
    Other(name.to_owned())
}

/// A table with a row of these values and another of NULLs, that are there when the capture begins, and two like them that come later.
async fn rows_of(s: &mut Scenario, columns: &[(&str, Type, &str)]) -> Result<()> {
    fill(s, columns).await?;
    s.judge().await
}

async fn fill(s: &mut Scenario, columns: &[(&str, Type, &str)]) -> Result<()> {
    let samples = table("samples").key("id", Int);
    let samples = columns.iter().fold(samples, |table, (name, ty, _)| table.column(name, ty.clone()));
    let samples = s.create(samples).await?;
    let values = || columns.iter().map(|(name, ty, text)| ((*name).to_owned(), Value::from_text(text, ty)));
    let row = |id: i32| std::iter::once(("id".to_owned(), Value::from(id))).chain(values()).collect();

    s.apply_all([samples.insert(row(1)), samples.insert(row! { id: 2 })]).await?;
    s.start_capture().await?;
    s.apply_all([samples.insert(row(3)), samples.insert(row! { id: 4 })]).await
}

/// Times of day, with and without a zone, 24:00, and timestamps of less than microseconds. Debezium turns a time with a
/// zone to UTC, and the zone is lost.
#[scenario(initial_snapshot)]
async fn times_of_day(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("noon", other("time without time zone"), "12:00:00.000001"),
            ("midnight", other("time without time zone"), "24:00:00"),
            ("millis", other("time(3) without time zone"), "12:00:00.123"),
            ("zoned", other("time with time zone"), "12:00:00+05:30"),
            ("moment", other("timestamp(3) without time zone"), "2024-03-31 02:30:00.123"),
            ("second", other("timestamp(0) with time zone"), "2024-03-31 00:30:00+00"),
        ],
    )
    .await
}

/// Intervals have months, days and a time apart. Debezium makes microseconds of them, with months of 30.4375 days, unless
/// `interval.handling.mode` says otherwise: a month and 30 days and 10:30 are then the same.
#[scenario(initial_snapshot)]
async fn intervals(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("short", other("interval"), "1 day 02:03:04.5"),
            ("long", other("interval"), "1 year 2 mons -3 days"),
            ("back", other("interval"), "-00:00:00.000001"),
        ],
    )
    .await
}

/// Before Christ and far ahead: PostgreSQL's dates reach from 4713 BC to the year 5874897. Debezium's initial snapshot takes a date before Christ for
/// one after, and moves a moment by two days; what it reads in the log is right.
#[scenario(initial_snapshot)]
async fn dates_far_away(s: &mut Scenario) -> Result<()> {
    fill(
        s,
        &[
            ("ides", Date, "0044-03-15 BC"),
            ("last_day", Date, "5874897-12-31"),
            ("noon_bc", Timestamp, "0044-03-15 12:00:00 BC"),
            ("late", Timestamp, "9999-12-31 23:59:59.999999"),
            ("moment_bc", TimestampTz, "0044-03-15 12:00:00+00 BC"),
            ("late_moment", TimestampTz, "9999-12-31 23:59:59.999999+00"),
        ],
    )
    .await?;

    judge_moved_by_the_snapshot(s).await
}

/// Before 1582 Java counts by the Julian calendar unless told otherwise, and PostgreSQL by the Gregorian one, as the standard wants it. Debezium's
/// initial snapshot moves such moments, here by ten days; dates are right, and so is what it reads in the log.
#[scenario(initial_snapshot)]
async fn dates_before_1582(s: &mut Scenario) -> Result<()> {
    fill(
        s,
        &[
            ("born_on", Date, "1452-04-15"),
            ("at", Timestamp, "1504-01-08 21:28:07.881154"),
            ("moment", TimestampTz, "1504-01-08 21:28:07.881154+00"),
        ],
    )
    .await?;

    judge_moved_by_the_snapshot(s).await
}

/// `infinity` is a date and a timestamp in PostgreSQL, later than any other. Debezium tells a timestamp with a zone as what
/// it is; a date without warning becomes some day in a distant year, and so does a timestamp of milliseconds.
#[scenario(initial_snapshot)]
async fn infinite_dates(s: &mut Scenario) -> Result<()> {
    let offers = table("offers").key("id", Int).column("until", Date).column("since", TimestampTz);
    let offers = s.create(offers.column("checked", other("timestamp(3) without time zone"))).await?;
    let from = |first: i32| {
        [
            offers.insert(row! { id: first, until: "2024-12-31", since: "-infinity" }),
            offers.insert(row! { id: first + 1, until: "infinity", since: "infinity" }),
            offers.insert(row! { id: first + 2, checked: "infinity" }),
        ]
    };
    s.apply_all(from(1)).await?;
    s.start_capture().await?;

    s.apply_all(from(11)).await?;

    let reference = "https://debezium.io/documentation/reference/3.5/connectors/postgresql.html";
    let (value, state) = (FaultKind::WrongValue, FaultKind::WrongState);
    s.judge_known_flaw("debezium", reference, &[value, value, value, value, state, state, state, state]).await
}

/// A moment is one, whatever clock it was read from: on the day on which summer time begins, 02:30 doesn't exist in Berlin,
/// and on the day on which it ends there are two of them.
#[scenario]
async fn moments_when_the_clocks_change(s: &mut Scenario) -> Result<()> {
    let shifts = s.create(table("shifts").key("id", Int).column("begins", TimestampTz)).await?;
    s.start_capture().await?;

    for (id, berlin, utc) in [
        (1, "2024-03-31 02:30:00 Europe/Berlin", "2024-03-31 01:30:00+00"),
        (2, "2024-10-27 02:30:00 CEST", "2024-10-27 00:30:00+00"),
        (3, "2024-10-27 02:30:00 CET", "2024-10-27 01:30:00+00"),
    ] {
        let sql = format!("INSERT INTO shifts VALUES ({id}, '{berlin}')");
        s.apply(raw(&sql, [shifts.insert(row! { id: id, begins: utc })])).await?;
    }
    s.apply(raw("SET timezone = 'America/New_York'", [])).await?;
    s.apply(shifts.update(3, row! { begins: "2024-10-27 02:00:00+00" })).await?;

    s.judge().await
}

/// NaN, infinity and a thousand digits. Debezium tells a numeric that is no finite number as NULL, and a zero without the
/// zeros behind its point.
#[scenario(initial_snapshot)]
async fn numerics_at_their_limits(s: &mut Scenario) -> Result<()> {
    let amounts = table("amounts").key("id", Int).column("free", Numeric(None));
    let amounts = s.create(amounts.column("money", Numeric(Some((10, 2))))).await?;
    let digits = "1234567890".repeat(100);
    let numbers = [
        ("NaN", "NaN"),
        ("Infinity", "0.00"),
        ("-Infinity", "-99999999.99"),
        ("0.00", "0.10"),
        (digits.as_str(), "99999999.99"),
        ("-0.000000000000000000000000000001", "-0.01"),
    ];
    let number = |text: &str| Value::Decimal(text.to_owned());
    let from = |first: i32| {
        let rows = (first..).zip(numbers);
        let insert = |(id, (free, money))| amounts.insert(row! { id: id, free: number(free), money: number(money) });
        rows.map(insert).collect::<Vec<_>>()
    };
    s.apply_all(from(1)).await?;
    s.start_capture().await?;

    s.apply_all(from(11)).await?;

    s.judge().await
}

/// Floating-point numbers at the edges: the smallest, the largest, minus zero, infinity, NaN. Each must come back as the
/// very same bits.
#[scenario(initial_snapshot)]
async fn floats_at_their_edges(s: &mut Scenario) -> Result<()> {
    let readings = table("readings").key("id", Int).column("single", Real).column("double", Double);
    let readings = s.create(readings).await?;
    let edges = [
        ("1e-45", "5e-324"),
        ("3.4028235e+38", "1.7976931348623157e+308"),
        ("Infinity", "-Infinity"),
        ("NaN", "NaN"),
        ("0.1", "0.30000000000000004"),
    ];
    let from = |first: i32| {
        let rows = (first..).zip(edges).map(|(id, (single, double))| {
            let (single, double) = (Value::from_text(single, &Real), Value::from_text(double, &Double));
            readings.insert(row! { id: id, single: single, double: double })
        });
        rows.collect::<Vec<_>>()
    };
    s.apply_all(from(1)).await?;
    s.start_capture().await?;

    s.apply_all(from(11)).await?;

    s.judge().await
}

/// Minus zero is a number of its own in IEEE 754, and equal to zero. JSON's numbers know it not: `to_jsonb` writes 0.
#[scenario(initial_snapshot)]
async fn minus_zero(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("double", Double)).await?;
    s.apply(readings.insert(row! { id: 1, double: -0.0 })).await?;
    s.start_capture().await?;

    s.apply(readings.insert(row! { id: 2, double: -0.0 })).await?;

    let reference = "https://www.postgresql.org/docs/17/datatype-json.html";
    let kinds = [FaultKind::WrongValue, FaultKind::WrongState];
    s.judge_known_flaw("trigger", reference, &kinds).await
}

/// Bit strings and money. Debezium makes a truth value of one bit, bytes of several (their number is then lost), and a plain
/// decimal of money.
#[scenario(initial_snapshot)]
async fn bits_and_money(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("flag", other("bit(1)"), "1"),
            ("mask", other("bit(8)"), "10101010"),
            ("free", other("bit varying"), "1000000001"),
            ("price", other("money"), "-$1,234.50"),
        ],
    )
    .await
}

/// Documents: `jsonb` has a normal form, `json` and `xml` are kept as they were written, blanks, order and repeated keys
/// included. An audit table of `jsonb` brings a `json` column into the normal form.
#[scenario(initial_snapshot)]
async fn documents(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("binary", Json, r#"{"a": 2.50, "bb": [1, null]}"#),
            ("written", other("json"), r#"{"bb": [1,null],  "a": 2.50}"#),
            ("scalar", Json, "\"text\""),
            ("markup", other("xml"), "<a b=\"1\">ä</a>"),
        ],
    )
    .await
}

/// Byte strings, identifiers and network addresses.
#[scenario(initial_snapshot)]
async fn bytes_identifiers_and_addresses(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("raw", Bytes, "\\x00ff10"),
            ("empty", Bytes, "\\x"),
            ("uuid", Uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            ("host", other("inet"), "10.0.0.1/24"),
            ("network", other("cidr"), "2001:db8::/32"),
            ("card", other("macaddr"), "08:00:2b:01:02:03"),
            ("long_card", other("macaddr8"), "08:00:2b:01:02:03:04:05"),
        ],
    )
    .await
}

/// Text of fixed length is padded with blanks, an empty text is not NULL, and `name`, the type of PostgreSQL's own
/// identifiers, comes from Debezium as NULL.
#[scenario(initial_snapshot)]
async fn texts(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("fixed", other("character(5)"), "ab   "),
            ("limited", Varchar(5), "äöüß€"),
            ("free", Text, "line\nbreak\ttab \\ backslash 'quote' \"double\" 𝄞"),
            ("empty", Text, ""),
            ("identifier", other("name"), "pg_class"),
        ],
    )
    .await
}

/// Full-text search. Debezium knows `tsvector` and leaves `tsquery` out.
#[scenario(initial_snapshot)]
async fn full_text_search(s: &mut Scenario) -> Result<()> {
    let query = ("query", other("tsquery"), "'fat' & 'rat'");
    rows_of(s, &[("document", other("tsvector"), "'cat':3 'fat':2 'sat':4"), query]).await
}

/// Ranges, open and closed, and multiranges, which Debezium leaves out.
#[scenario(initial_snapshot)]
async fn ranges(s: &mut Scenario) -> Result<()> {
    rows_of(
        s,
        &[
            ("ints", other("int4range"), "[1,5)"),
            ("numbers", other("numrange"), "(1.5,)"),
            ("times", other("tstzrange"), "[\"2024-01-01 00:00:00+00\",)"),
            ("nothing", other("int4range"), "empty"),
            ("several", other("int4multirange"), "{[1,2),[5,7)}"),
        ],
    )
    .await
}

/// Geometry: Debezium writes a point twice, by its coordinates and in well-known binary, and leaves a box out.
#[scenario(initial_snapshot)]
async fn geometry(s: &mut Scenario) -> Result<()> {
    rows_of(s, &[("place", other("point"), "(1.5,-2)"), ("area", other("box"), "(1,1),(0,0)")]).await
}

/// Arrays of several element types, with NULLs, empty ones, and texts that need quotes.
#[scenario(initial_snapshot)]
async fn arrays(s: &mut Scenario) -> Result<()> {
    let array = |element: Type| Array(Box::new(element));
    rows_of(
        s,
        &[
            ("ints", array(Int), "{1,NULL,3}"),
            ("texts", array(Text), r#"{"a,b",NULL,"","NULL","\"q\""}"#),
            ("numbers", array(Numeric(Some((6, 2)))), "{1.50,2.00}"),
            ("truths", array(Bool), "{t,f}"),
            ("days", array(Date), "{2024-02-29,1969-12-31}"),
            ("uuids", array(Uuid), "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}"),
            ("none", array(Int), "{}"),
        ],
    )
    .await
}

/// An array of two dimensions. Debezium keeps the outer one and puts NULL for each inner one.
#[scenario(initial_snapshot)]
async fn arrays_of_two_dimensions(s: &mut Scenario) -> Result<()> {
    rows_of(s, &[("board", Array(Box::new(Int)), "{{1,2},{3,4}}")]).await
}

/// A composite type, whose value is a row. Debezium leaves such a column out.
#[scenario(initial_snapshot)]
async fn composite_types(s: &mut Scenario) -> Result<()> {
    s.apply(raw("CREATE TYPE address AS (street text, number int, price numeric)", [])).await?;
    let fields = ["street", "number", "price"].map(str::to_owned).to_vec();
    let address = Composite { name: "address".to_owned(), fields };
    rows_of(s, &[("home", address, r#"("Rue d""Or, 1",,2.50)"#)]).await
}

/// A domain is told as the type that it is based on.
#[scenario(initial_snapshot)]
async fn domains(s: &mut Scenario) -> Result<()> {
    s.apply(raw("CREATE DOMAIN cents AS integer CHECK (VALUE >= 0)", [])).await?;
    let prices = table("prices").key("id", Int).column("price", other("cents"));
    let prices = s.create(prices).await?;
    s.apply(prices.insert(row! { id: 3, price: 100 })).await?;
    s.start_capture().await?;

    s.apply(prices.insert(row! { id: 1, price: 250 })).await?;
    s.refused(prices.insert(row! { id: 2, price: -1 }), "violates check constraint").await?;

    s.judge().await
}

/// An enum that gets another value while it is captured.
#[scenario(initial_snapshot)]
async fn enum_with_a_value_added(s: &mut Scenario) -> Result<()> {
    s.apply(raw("CREATE TYPE mood AS ENUM ('sad', 'happy')", [])).await?;
    let people = s.create(table("people").key("id", Int).column("mood", other("mood"))).await?;
    s.apply(people.insert(row! { id: 3, mood: "sad" })).await?;
    s.start_capture().await?;

    s.apply(people.insert(row! { id: 1, mood: "happy" })).await?;
    s.apply(raw("ALTER TYPE mood ADD VALUE 'fine' BEFORE 'happy'", [])).await?;
    s.apply(people.insert(row! { id: 2, mood: "fine" })).await?;

    s.judge().await
}

/// hstore, a type of an extension: Debezium and an audit table make a JSON object of it.
#[scenario(initial_snapshot)]
async fn hstore(s: &mut Scenario) -> Result<()> {
    s.apply(raw("CREATE EXTENSION hstore", [])).await?;
    rows_of(s, &[("tags", other("hstore"), r#""a"=>"1", "b"=>NULL, "c d"=>"\"x\"""#)]).await
}
