//! Types that random values are made of.

use scenarios_relational::random::{self, Maker};

/// A backslash is one only if there are two.
fn quote(text: &str) -> String {
    random::quote(&text.replace('\\', "\\\\"))
}

/// So many letters of a text.
fn first(text: &str, letters: usize) -> String {
    quote(text.chars().take(letters).collect::<String>().trim_end())
}

/// A day from the year 1000 on, before which dates "might work" (MySQL manual, 13.2.2), with microseconds.
fn moment(n: i64) -> String {
    let (days, micros) = (n % 365_000, n.unsigned_abs() % 86_400_000_000);
    format!("'2000-01-01' + INTERVAL {days} DAY + INTERVAL {micros} MICROSECOND")
}

/// Types of both servers, and a value of each from a number and a text.
pub(crate) const TYPES: &[Maker] = &[
    ("boolean", |n, _| (n % 2 == 0).to_string()),
    ("tinyint", |n, _| format!("{}", n % 128)),
    ("smallint unsigned", |n, _| format!("{}", n.rem_euclid(65_536))),
    ("mediumint", |n, _| format!("{}", n % 8_388_608)),
    ("int", |n, _| format!("{}", n % 2_147_483_648)),
    ("int unsigned", |n, _| format!("{}", n.rem_euclid(4_294_967_296))),
    ("bigint", |n, _| n.to_string()),
    ("bigint unsigned", |n, _| format!("{}", n.unsigned_abs() >> 1)),
    ("decimal(20,4)", |n, _| format!("{n} / 100000")),
    ("decimal(10,0)", |n, _| format!("{}", n % 10_000_000_000)),
    ("float", |n, _| format!("{:e}", f32::from_bits(u32::try_from(n & 0xBF7F_FFFF).unwrap_or_default()))),
    ("double", |n, _| format!("{:e}", f64::from_bits(n.unsigned_abs() & 0xBFEF_FFFF_FFFF_FFFF))),
    ("bit(11)", |n, _| format!("b'{:b}'", n.rem_euclid(2048))),
    ("year", |n, _| format!("{}", 1901 + n.rem_euclid(255))),
    ("date", |n, _| format!("'2000-01-01' + INTERVAL {} DAY", n % 365_000)),
    ("time", |n, _| format!("SEC_TO_TIME({})", n % 3_020_400)),
    ("time(6)", |n, _| format!("SEC_TO_TIME({}.{:06})", n % 3_020_399, n.unsigned_abs() % 1_000_000)),
    ("datetime", |n, _| format!("'2000-01-01' + INTERVAL {} SECOND", n % 31_000_000_000)),
    ("datetime(3)", |n, _| moment(n)),
    ("datetime(6)", |n, _| moment(n)),
    ("timestamp(6)", |n, _| {
        format!("FROM_UNIXTIME({}.{:06})", n.rem_euclid(2_147_483_647) + 1, n.rem_euclid(1_000_000))
    }),
    ("varchar(40)", |_, t| quote(t)),
    ("varchar(20) CHARACTER SET utf16", |_, t| first(t, 20)),
    ("char(6)", |_, t| first(t, 6)),
    ("tinytext", |_, t| quote(t)),
    ("longtext", |_, t| quote(t)),
    ("varbinary(120)", |n, t| format!("CONCAT({}, x'{n:016x}')", quote(t))),
    ("blob", |n, t| format!("CONCAT(x'{n:016x}', {})", quote(t))),
    ("enum('a','b','größer')", |n, _| format!("{}", 1 + n.rem_euclid(3))),
    ("set('a','b','c','d')", |n, _| format!("{}", n.rem_euclid(16))),
    ("json", |n, t| {
        format!("JSON_OBJECT('n', {n}, {}, JSON_ARRAY({}, NULL, true))", quote(&format!("k{t}")), quote(t))
    }),
];
