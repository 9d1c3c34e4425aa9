//! See `benches/pipelines.rs`.
