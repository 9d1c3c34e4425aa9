//! One test for each scenario and method.

fn main() -> std::process::ExitCode {
    changeproof::runner::main(scenarios_mysql::CATALOGUE)
}
