//! `cdc judge` as its users run it: with programs of their own, right and wrong.

use std::process::{Command, Output};

const CDC: &str = env!("CARGO_BIN_EXE_cdc");

/// `cdc judge` in the workspace's folder.
fn judge(command: &str, more: &[&str]) -> Command {
    judge_on("postgres", command, more)
}

fn judge_on(storage: &str, command: &str, more: &[&str]) -> Command {
    let mut judge = Command::new(CDC);
    judge.args(["judge", "--on", storage, "--capture", command]).args(more);
    judge.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    judge
}

/// The exit code and all that was said.
fn told(output: &Output) -> (Option<i32>, String) {
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    (output.status.code(), said)
}

mod docker {
    use std::{
        error::Error,
        fs,
        path::Path,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::{judge, judge_on, told};

    type Outcome = Result<(), Box<dyn Error>>;

    const WAL2JSON: &str = "python3 examples/wal2json/adapter.py --in-container";

    #[test]
    fn the_adapter_of_wal2json_keeps_the_promises_that_its_guarantees_state() -> Outcome {
        let scenarios = ["update_of_a_primary_key", "unchanged_toast_identity_default", "common_types"];
        let mut more = vec!["--guarantees", "examples/wal2json/guarantees.json"];
        // Stopping and resuming are its hardest part.
        let all = scenarios.into_iter().chain(["capture_stopped_in_mid_transaction"]);
        all.for_each(|scenario| more.extend(["--scenario", scenario]));
        let (code, said) = told(&judge(WAL2JSON, &more).output()?);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("4 scenarios: 1 exact, 3 as guaranteed, 0 broken, 0 failed"), "{said}");
        Ok(())
    }

    #[test]
    fn the_adapter_of_mysqlbinlog_on_mysql_keeps_the_promises_that_its_guarantees_state() -> Outcome {
        let mut more = vec!["--guarantees", "examples/mysqlbinlog/guarantees.json"];
        for scenario in ["update_of_a_primary_key", "common_types", "truncate_of_one_table", "rename_a_column"] {
            more.extend(["--scenario", scenario]);
        }
        let (code, said) = told(&judge_on("mysql", "python3 examples/mysqlbinlog/adapter.py", &more).output()?);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("4 scenarios: 2 exact, 2 as guaranteed, 0 broken, 0 failed"), "{said}");
        assert!(said.contains("missed rows from before the capture began"), "it isn't asked for them: {said}");
        Ok(())
    }

    #[test]
    fn the_adapter_of_mysqlbinlog_on_mariadb_keeps_the_promises_that_its_guarantees_state() -> Outcome {
        let mut more = vec!["--guarantees", "examples/mysqlbinlog/guarantees.json"];
        for scenario in ["update_of_a_primary_key", "common_types", "truncate_of_one_table", "interleaved_transactions"]
        {
            more.extend(["--scenario", scenario]);
        }
        let command = "python3 examples/mysqlbinlog/adapter.py mariadb";
        let (code, said) = told(&judge_on("mariadb", command, &more).output()?);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("4 scenarios: 3 exact, 1 as guaranteed, 0 broken, 0 failed"), "{said}");
        more.extend(["--scenario", "foreign_key_cascades"]);
        let (code, said) = told(&judge_on("mariadb", command, &more).output()?);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("broken: lost (2×)"), "{said}");
        Ok(())
    }

    #[test]
    fn a_prepared_transaction_of_mysql_that_a_program_tells_too_early_breaks_its_promise() -> Outcome {
        let more = ["--scenario", "prepared_transaction_rolled_back"];
        let (code, said) = told(&judge_on("mysql", "python3 examples/mysqlbinlog/adapter.py", &more).output()?);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("broken: never happened (1×)"), "{said}");
        Ok(())
    }

    #[test]
    fn values_without_types_are_read_by_those_of_the_catalogue() -> Outcome {
        let command = format!("{WAL2JSON} | sed --unbuffered 's/\"types\": {{[^}}]*}}, //'");
        let mut more = vec!["--guarantees", "examples/wal2json/guarantees.json"];
        for scenario in ["common_types", "drop_and_add_again_with_another_type", "several_tables_in_a_transaction"] {
            more.extend(["--scenario", scenario]);
        }
        let (code, said) = told(&judge(&command, &more).output()?);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("3 scenarios: 1 exact, 2 as guaranteed"), "{said}");
        Ok(())
    }

    #[test]
    fn a_promise_that_it_does_not_keep_is_broken_by_name() -> Outcome {
        // Left to the default it promises marks for large values, and wal2json leaves them out.
        let (code, said) = told(&judge(WAL2JSON, &["--scenario", "unchanged_toast_identity_default"]).output()?);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("broken: wrong value") && said.contains("1 broken"), "{said}");
        Ok(())
    }

    #[test]
    fn a_program_that_is_wrong_is_told_with_its_line_or_its_last_words() -> Outcome {
        let run = |command: &str| -> Result<_, Box<dyn Error>> {
            Ok(told(&judge(command, &["--scenario", "insert_update_delete"]).output()?))
        };
        let (code, said) = run("echo '{\"type\":\"ready\"}'; echo oops; sleep 1000")?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("not as documented") && said.contains("\n    oops"), "{said}");
        let (code, said) = run("echo '{\"type\":\"ready\"}'; echo no more >&2; exit 3")?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("it ended by itself (exit status: 3)") && said.contains("no more"), "{said}");
        for (command, words) in [("no-such-command", "127"), ("echo ready; sleep 1000", "not as documented")] {
            let (code, said) = run(command)?;
            assert!(code == Some(2) && said.contains(words), "{code:?} {said}");
        }
        Ok(())
    }

    #[test]
    fn an_interrupt_leaves_no_program_behind() -> Outcome {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judged.pid");
        let _ = fs::remove_file(&file);
        let command = format!("sleep 1000 & echo $! > {0}.part; mv {0}.part {0}; wait", file.display());
        let mut judge = judge(&command, &["--scenario", "composite_key"]);
        let mut running = judge.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let until = |what: &str, is_so: &dyn Fn() -> bool| -> Outcome {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !is_so() {
                if Instant::now() > deadline {
                    return Err(format!("a minute has passed and still not: {what}").into());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        };
        until("the program has started", &|| file.exists())?;
        let sleeper = fs::read_to_string(&file)?.trim().to_owned();
        Command::new("kill").args(["-INT", &running.id().to_string()]).status()?;
        assert_eq!(running.wait()?.code(), Some(130));
        until("its processes are gone", &|| {
            let stat = fs::read_to_string(format!("/proc/{sleeper}/stat"));
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z"))
        })
    }
}

#[test]
fn what_is_wrong_with_the_command_line_is_told_before_anything_starts() -> std::io::Result<()> {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("guarantees.json");
    let name = file.display().to_string();
    for (text, words) in [
        ("{", "EOF"),
        (r#"{ "transaction": true }"#, "unknown field `transaction`"),
        (
            r#"{ "granularity": { "latest_state": { "touched_by_updates": true, "overlap": false } } }"#,
            "looks from time to time",
        ),
    ] {
        std::fs::write(&file, text)?;
        let (code, said) = told(&judge("true", &["--guarantees", &name]).output()?);
        assert!(code == Some(2) && said.contains(words) && said.contains("guarantees.json"), "{code:?} {said}");
    }
    for (scenario, words) in
        [("no_such_scenario", "cdc list"), ("nulls_replaced_by_the_converters_default", "Kafka Connect's")]
    {
        let (code, said) = told(&judge("true", &["--scenario", scenario]).output()?);
        assert!(code == Some(2) && said.contains(words), "{code:?} {said}");
    }
    Ok(())
}
