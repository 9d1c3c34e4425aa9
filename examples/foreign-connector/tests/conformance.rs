//! One test for each scenario.

scenarios_postgres::conformance!(foreign_connector::SlotPolling);
