//! One test for each scenario and pipeline.

fn main() -> std::process::ExitCode {
    changeproof::runner::main(scenarios_pipelines::CATALOGUE)
}
