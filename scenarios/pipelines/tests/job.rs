//! The unit tests of Spark's pipeline, by pytest in its image.

use std::process::ExitCode;

use changeproof::{
    runner::on_a_runtime,
    stack::{Stack, docker, image_tag, run_guard_if_asked},
};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    run_guard_if_asked();
    let trial = Trial::test("job::unit_tests", || on_a_runtime(unit_tests()));
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

async fn unit_tests() -> changeproof::error::Result<()> {
    let stack = Stack::with_engine(&[]).await?;
    let command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "/opt/changeproof/tests"];
    let told = docker::run_beside(stack.state(), &image_tag("spark").await?, &[], &command).await?;
    println!("{told}");
    Ok(())
}
