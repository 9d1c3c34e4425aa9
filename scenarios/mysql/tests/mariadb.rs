//! One test for each scenario of MariaDB and method.

fn main() -> std::process::ExitCode {
    changeproof::runner::main(scenarios_mysql::MARIADB)
}
