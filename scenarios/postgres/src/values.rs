//! Types of PostgreSQL, and expressions of SQL that make a value of each from a number and a text, for random values.

use scenarios_relational::random::{Maker, quote};

/// The types.
pub const TYPES: &[Maker] = &[
    ("boolean", |n, _| (n % 2 == 0).to_string()),
    ("smallint", |n, _| format!("{}", n % 32_768)),
    ("integer", |n, _| format!("{}", n % 2_147_483_648)),
    ("bigint", |n, _| format!("'{n}'")),
    ("numeric", |n, _| format!("'{}.{}'", n / 1000, (n % 1000).unsigned_abs() + 1)),
    ("numeric(20,4)", |n, _| format!("'{n}'::numeric / 100000")),
    ("real", |n, _| format!("'{:e}'", f32::from_bits(u32::try_from(n & 0xBFFF_FFFF).unwrap_or_default()))),
    ("double precision", |n, _| format!("'{:e}'", f64::from_bits(n.unsigned_abs() & 0xBFFF_FFFF_FFFF_FFFF))),
    ("text", |_, t| quote(t)),
    ("varchar(40)", |_, t| quote(&t.chars().take(40).collect::<String>())),
    ("char(6)", |_, t| quote(&t.chars().take(3).collect::<String>())),
    ("bytea", |n, t| format!("convert_to({}, 'UTF8') || decode('{n:016x}', 'hex')", quote(t))),
    ("date", |n, _| format!("date '2000-01-01' + ({})::int", n % 700_000)),
    ("time", |n, _| format!("time '00:00' + make_interval(secs => {})", n.unsigned_abs() % 86_400)),
    ("timetz", |n, _| format!("timetz '{:02}:{:02}:00{:+03}'", n.unsigned_abs() % 24, n.unsigned_abs() % 60, n % 15)),
    ("timestamp", |n, _| {
        format!(
            "timestamp '2000-01-01' + make_interval(days => ({})::int, secs => 0.000001 * {})",
            n % 700_000,
            n.unsigned_abs() % 86_400_000_000
        )
    }),
    ("timestamptz", |n, _| {
        format!(
            "timestamptz '2000-01-01' + make_interval(days => ({})::int, secs => 0.000001 * {})",
            n % 700_000,
            n.unsigned_abs() % 86_400_000_000
        )
    }),
    ("interval", |n, _| {
        format!(
            "make_interval(months => ({})::int, days => ({})::int, secs => {} * 0.25)",
            n % 1000,
            n % 999,
            n % 100_000
        )
    }),
    ("uuid", |n, _| format!("'{:032x}'", (i128::from(n) * 0x9E37_79B9_7F4A_7C15).unsigned_abs())),
    ("inet", |n, _| {
        format!(
            "'{}.{}.{}.{}/{}'",
            n.rem_euclid(256),
            (n >> 8).rem_euclid(256),
            (n >> 16).rem_euclid(256),
            (n >> 24).rem_euclid(256),
            n.rem_euclid(33)
        )
    }),
    ("macaddr", |n, _| format!("'{:012x}'", n.rem_euclid(1 << 48))),
    ("money", |n, _| format!("('{}'::numeric / 100)::money", n % 10_000_000_000)),
    ("bit(11)", |n, _| format!("({})::int::bit(11)", n % 2048)),
    ("varbit", |n, _| format!("B'{:b}'", n.unsigned_abs() | 2)),
    ("jsonb", |n, t| {
        format!(
            "jsonb_build_object('n', '{n}'::numeric / 1000, {}, jsonb_build_array({}, NULL, true))",
            quote(&format!("k{t}")),
            quote(t)
        )
    }),
    ("json", |n, t| format!("json_build_object('n', {n}, 'text', {}, 'a', json_build_array(1, NULL))", quote(t))),
    ("int[]", |n, _| format!("ARRAY[{}, NULL, {}]", n % 1000, n % 77)),
    ("text[]", |_, t| format!("ARRAY[{}, NULL, '', 'NULL']", quote(t))),
    ("int4range", |n, _| format!("int4range(({})::int, ({})::int, '[]')", n % 1000, n % 1000 + 5)),
    ("tsvector", |_, t| format!("to_tsvector('simple', {})", quote(t))),
    ("point", |n, _| format!("point({}, {})", n % 1000, n % 77)),
];
