//! The unit tests of Spark's pipeline, by pytest in its image.

use std::process::ExitCode;

use changeproof::stack::{Stack, docker, image_tag, run_guard_if_asked};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    run_guard_if_asked();
    let trial = Trial::test("job::unit_tests", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(unit_tests()).map_err(|error| error.to_string().into())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

async fn unit_tests() -> changeproof::error::Result<()> {
    let stack = Stack::with_engine(&[]).await?;
    let command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "/opt/changeproof/tests"];
    let told = docker::run_beside(stack.state(), &image_tag("spark").await?, &[], &command).await?;
    println!("{told}");
    Ok(())
}
