//! One test for each scenario and format.

fn main() -> std::process::ExitCode {
    changeproof::runner::main(scenarios_connect::CATALOGUE)
}
