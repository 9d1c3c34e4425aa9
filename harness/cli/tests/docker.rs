//! `cdc` as its users run it: on real services, with real mistakes, interrupted and killed.

mod docker {
    use std::{
        error::Error,
        fs,
        path::{Path, PathBuf},
        process::{Child, Command, Output, Stdio},
        time::{Duration, Instant},
    };

    type Outcome = Result<(), Box<dyn Error>>;

    const CDC: &str = env!("CARGO_BIN_EXE_cdc");

    /// A stack that shares nothing with other tests, removed at the end whatever happens.
    struct OwnStack(PathBuf);

    impl OwnStack {
        fn new(name: &str) -> Result<Self, Box<dyn Error>> {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            let stack = Self(dir);
            stack.cdc(&["sweep"])?;
            Ok(stack)
        }

        fn command(&self, arguments: &[&str]) -> Command {
            let mut command = Command::new(CDC);
            command.args(arguments).env("CHANGEPROOF_STATE_DIR", &self.0);
            command.env_remove("CHANGEPROOF_KEEP").env_remove("NEXTEST").stdin(Stdio::null());
            command
        }

        fn cdc(&self, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
            Ok(self.command(arguments).output()?)
        }

        /// The names of its containers and networks, running or not.
        fn left(&self) -> Result<Vec<String>, Box<dyn Error>> {
            let ids = fs::read_to_string(self.0.join("id")).unwrap_or_default();
            let label = format!("label=io.changeproof.stack={}", ids.trim());
            let mut left = Vec::new();
            for (kind, format) in [("ps", "{{.Names}}"), ("network", "{{.Name}}"), ("volume", "{{.Name}}")] {
                let mut docker = Command::new("docker");
                match kind {
                    "ps" => docker.args(["ps", "--all"]),
                    kind => docker.args([kind, "ls"]),
                };
                let output = docker.args(["--filter", &label, "--format", format]).output()?;
                left.extend(String::from_utf8(output.stdout)?.lines().map(str::to_owned));
            }
            Ok(left)
        }

        fn start(&self, arguments: &[&str]) -> Result<Child, Box<dyn Error>> {
            Ok(self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
        }
    }

    impl Drop for OwnStack {
        fn drop(&mut self) {
            let _ = self.cdc(&["sweep"]);
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Looks again until it is so, or a minute has passed.
    fn until(what: &str, mut is_so: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so()? {
            if Instant::now() > deadline {
                return Err(format!("a minute has passed and still not: {what}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn signal(signal: &str, process: u32) -> Outcome {
        let status = Command::new("kill").args([signal, &process.to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill: {status}").into()) }
    }

    fn sql(name: &str, text: &str) -> Result<String, Box<dyn Error>> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text)?;
        Ok(path.to_str().ok_or("a path that is no text")?.to_owned())
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Whether the streams side by side under a statement begin so.
    fn starts(shown: &str, statement: &str, cells: &[&str]) -> bool {
        let mut lines = shown.lines().skip_while(|line| !line.contains(statement)).skip(1);
        let line = lines.next().unwrap_or_default();
        let shown: Vec<_> = line.split('│').map(str::trim).collect();
        cells.iter().enumerate().all(|(at, start)| match *start {
            "" => shown.get(at).is_none_or(|cell| cell.is_empty()),
            start => shown.get(at).is_some_and(|cell| cell.starts_with(start)),
        })
    }

    #[test]
    fn the_demo_shows_what_each_method_made_of_a_statement_side_by_side() -> Outcome {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo.sql");
        let output = Command::new(CDC).args(["try", demo]).output()?;
        let (shown, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{shown}{told}");
        let starts = |statement: &str, cells: [&str; 4]| starts(&shown, statement, &cells);
        assert!(
            starts("SET tier = 'silver' WHERE id = 1", ["~ customers 1", "~ customers 1", "~ customers 1", ""]),
            "{shown}"
        );
        assert!(
            starts("SET tier = 'gold' WHERE id = 1", ["~ customers 1", "~ customers 1", "~ customers 1", "±"]),
            "{shown}"
        );
        assert!(starts("SET id = 20", ["- customers 2", "~ customers 20", "~ customers 20", ""]), "{shown}");
        assert!(starts("INSERT INTO orders VALUES (102", ["+ orders 102", "* orders", "+ orders 102", "±"]), "{shown}");
        assert!(starts("TRUNCATE orders", ["! orders", "! orders", "", ""]), "{shown}");
        for missed in ["missed truncate (1×)", "missed delete (2×)", "key change told as a new row (1×)"] {
            assert!(shown.contains(missed), "{missed}: {shown}");
        }
        Ok(())
    }

    #[test]
    fn the_demo_of_mysql_shows_the_same_by_its_methods() -> Outcome {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo-mysql.sql");
        let output = Command::new(CDC).args(["try", demo, "--on", "mysql"]).output()?;
        let (shown, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{shown}{told}");
        for (statement, cells) in [
            ("SET tier = 'silver' WHERE id = 1", ["~ customers 1", "~ customers 1", ""]),
            ("SET id = 20", ["- customers 2", "~ customers 20", ""]),
            ("b: UPDATE customers SET tier = 'gold'", ["(waited for", "", ""]),
            ("INSERT IGNORE", ["", "", ""]),
            ("REPLACE INTO orders", ["~ orders 100", "~ orders 100", ""]),
            ("a: DELETE FROM orders;", ["", "", ""]),
            ("VALUES (102", ["+ orders 102", "* orders", ""]),
            ("UPDATE clients", ["~ clients 20", "* clients  (was customers)", "±"]),
            ("TRUNCATE orders", ["! orders", "! orders", ""]),
        ] {
            assert!(starts(&shown, statement, &cells), "{statement}: {shown}");
        }
        for missed in ["missed truncate (1×)", "missed delete (1×)", "schema change told only with the next row (2×)"]
        {
            assert!(shown.contains(missed), "{missed}: {shown}");
        }
        Ok(())
    }

    #[test]
    fn the_demo_of_mysql_runs_on_mariadb_too() -> Outcome {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo-mysql.sql");
        let output = Command::new(CDC).args(["try", demo, "--on", "mariadb"]).output()?;
        let (shown, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{shown}{told}");
        for (statement, cells) in [
            ("SET id = 20", ["- customers 2", "~ customers 20", "~ customers 20", ""]),
            ("b: UPDATE customers SET tier = 'gold'", ["(waited for", "", "", ""]),
            ("a: ALTER TABLE orders ADD", ["", "", "* orders", ""]),
            ("RENAME TABLE customers", ["", "", "* clients  (was customers)", ""]),
            ("TRUNCATE orders", ["! orders", "! orders", "", ""]),
        ] {
            assert!(starts(&shown, statement, &cells), "{statement}: {shown}");
        }
        assert!(shown.contains("before-image of an update holds what changed only (8×)"), "{shown}");
        Ok(())
    }

    #[test]
    fn a_wrong_statement_of_mysql_is_shown_with_its_line_and_column() -> Outcome {
        let create = "CREATE TABLE t (id int);\n\nINSERT INTO t\n  VALUES";
        for (name, rest, words) in [
            ("wrong-mysql.sql", "(1) oops;\n", "wrong-mysql.sql:4:13: You have an error in your SQL syntax"),
            ("unknown-mysql.sql", " (oops);\n", "unknown-mysql.sql:4:11: Unknown column 'oops'"),
        ] {
            let file = sql(name, &format!("{create}{rest}"))?;
            let output = Command::new(CDC).args(["try", &file, "--on", "mysql", "--method", "binlog"]).output()?;
            let told = text(&output.stderr);
            assert!(output.status.code() == Some(2) && told.contains(words), "{told}");
        }
        Ok(())
    }

    #[test]
    fn a_table_that_takes_anothers_name_is_told_apart_from_it() -> Outcome {
        let swap = "CREATE TABLE orders (id int PRIMARY KEY);\nINSERT INTO orders (id) VALUES (1);\n\
                    CREATE TABLE ghost (id int PRIMARY KEY, n int);\nINSERT INTO ghost (id) VALUES (1), (2);\n\
                    RENAME TABLE orders TO old, ghost TO orders;\nINSERT INTO orders (id) VALUES (3);";
        let file = sql("swap-mysql.sql", swap)?;
        let output = Command::new(CDC).args(["try", &file, "--on", "mysql", "--format", "json"]).output()?;
        let (lines, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{lines}{told}");
        assert!(lines.contains(r#""renamed_from":"ghost""#) && lines.contains(r#""position":{"gtid":""#), "{lines}");
        Ok(())
    }

    #[test]
    fn a_method_alone_shows_its_stream_under_its_statements_and_keeps_its_promises() -> Outcome {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo.sql");
        let output = Command::new(CDC).args(["try", demo, "--on", "postgres", "--method", "debezium"]).output()?;
        let (shown, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{shown}{told}");
        let lines: Vec<_> = shown.lines().map(str::trim).collect();
        let caused = |statement: &str, change: &str| {
            let at = lines.iter().position(|line| line.contains(statement));
            at.is_some_and(|at| lines[at + 1..].iter().take(3).any(|line| line.starts_with(change)))
        };
        assert!(caused("SET tier = 'gold' WHERE id = 1", "~ customers 1"), "{shown}");
        assert!(caused("SET id = 20", "- customers 2"), "{shown}");
        assert!(caused("b: UPDATE customers SET tier = 'gold'", "(waited for"), "{shown}");
        assert!(caused("b: UPDATE customers SET tier = 'gold'", "~ customers 20"), "{shown}");
        assert!(caused("TRUNCATE orders", "! orders"), "{shown}");
        assert!(!caused("a: DELETE FROM orders;", "- orders"), "it was rolled back: {shown}");
        assert!(shown.contains("unchanged TOAST value not sent (2×)"), "{shown}");
        Ok(())
    }

    #[test]
    fn json_lines_are_whole_and_tell_the_verdict() -> Outcome {
        let file = sql(
            "json.sql",
            "CREATE DOMAIN cents AS int;\nCREATE TABLE t (id int PRIMARY KEY, n numeric(6,2), c cents);\nINSERT INTO t VALUES (1, 1.5, 7);\nDELETE FROM t;",
        )?;
        let output = Command::new(CDC).args(["try", &file, "--format", "json"]).output()?;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let lines: Vec<serde_json::Value> =
            text(&output.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
        assert_eq!(of("statement").len(), 4);
        let changes = of("change");
        assert_eq!((&changes[0]["op"], &changes[0]["statement"]), (&"insert".into(), &3.into()));
        assert_eq!(changes[0]["after"], serde_json::json!({ "id": 1, "n": "1.50", "c": 7 }));
        assert_eq!((&changes[1]["op"], &changes[1]["tombstone"]), (&"delete".into(), &true.into()));
        assert_eq!(of("verdict")[0]["verdict"], "as_guaranteed");
        Ok(())
    }

    #[test]
    fn a_wrong_statement_is_shown_with_its_line_and_column() -> Outcome {
        let file = sql("wrong.sql", "CREATE TABLE t (id int);\n\nINSERT INTO t\n  VALUES (oops);\n")?;
        let output = Command::new(CDC).args(["try", &file]).output()?;
        assert_eq!(output.status.code(), Some(2));
        let told = text(&output.stderr);
        assert!(told.contains("wrong.sql:4:11: column \"oops\" does not exist"), "{told}");
        Ok(())
    }

    #[test]
    fn services_come_up_by_hand_and_go_again() -> Outcome {
        let stack = OwnStack::new("by-hand")?;
        let up = stack.cdc(&["up", "postgres"])?;
        assert_eq!(up.status.code(), Some(0), "{}", text(&up.stderr));
        assert!(text(&up.stdout).contains("postgres://changeproof:"));
        let ps = text(&stack.cdc(&["ps"])?.stdout);
        assert!(ps.contains("PostgreSQL") && ps.contains("127.0.0.1:"), "{ps}");
        assert_eq!(stack.left()?.len(), 2, "a container and a network");
        let down = text(&stack.cdc(&["down"])?.stdout);
        assert!(down.contains("removed changeproof-"), "{down}");
        assert_eq!(stack.left()?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_service_that_died_is_found_by_nobody_until_it_is_ready_again() -> Outcome {
        let stack = OwnStack::new("died")?;
        let up = || stack.command(&["up", "postgres"]);
        assert_eq!(up().output()?.status.code(), Some(0));
        let container = stack.left()?.into_iter().find(|name| name.ends_with("-postgres")).ok_or("no container")?;
        let docker = |arguments: &[&str]| Command::new("docker").args(arguments).arg(&container).output();
        docker(&["kill"])?;
        let first = up().stdout(Stdio::piped()).spawn()?;
        until("the container runs again", || {
            Ok(docker(&["inspect", "--format", "{{.State.Running}}"])?.stdout.starts_with(b"true"))
        })?;
        let second = up().output()?;
        assert_eq!(text(&first.wait_with_output()?.stdout), text(&second.stdout), "of one server");
        Ok(())
    }

    #[test]
    fn an_interrupt_leaves_nothing_behind() -> Outcome {
        let stack = OwnStack::new("interrupted")?;
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo.sql");
        let mut running = stack.start(&["try", demo])?;
        until("a container has been started", || Ok(stack.left()?.len() > 1))?;
        signal("-INT", running.id())?;
        let status = running.wait()?;
        assert!(!status.success(), "{status}");
        until("everything has been removed", || Ok(stack.left()?.is_empty()))
    }

    #[test]
    fn a_kill_leaves_nothing_that_the_next_run_does_not_remove() -> Outcome {
        let stack = OwnStack::new("killed")?;
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo.sql");
        let mut running = stack.start(&["try", demo])?;
        until("a container has been started", || Ok(stack.left()?.len() > 1))?;
        let guard = guard_of(running.id())?.ok_or("there is no guard")?;
        signal("-KILL", guard)?;
        signal("-KILL", running.id())?;
        running.wait()?;
        assert!(stack.left()?.len() > 1, "nobody is there to remove them");
        let file = sql("next.sql", "CREATE TABLE t (id int PRIMARY KEY);")?;
        let next = stack.cdc(&["try", &file])?;
        assert_eq!(next.status.code(), Some(0), "{}", text(&next.stderr));
        until("everything has been removed", || Ok(stack.left()?.is_empty()))
    }

    /// The guard of a process: the one whose environment says that it watches it.
    fn guard_of(process: u32) -> Result<Option<u32>, Box<dyn Error>> {
        let wanted = format!("CHANGEPROOF_GUARD_OF={process}");
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

/// What needs no engine.
mod without_docker {
    use std::process::Command;

    const CDC: &str = env!("CARGO_BIN_EXE_cdc");

    fn run(arguments: &[&str]) -> std::io::Result<(Option<i32>, String)> {
        let mut command = Command::new(CDC);
        command.args(arguments).env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        let output = command.output()?;
        let told = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&told).into_owned()))
    }

    const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo.sql");

    #[test]
    fn a_missing_engine_is_told_with_the_way_to_get_one() -> std::io::Result<()> {
        let (code, told) = run(&["try", DEMO])?;
        assert_eq!(code, Some(3), "{told}");
        assert!(told.contains("could not reach the engine") && told.contains("DOCKER_HOST"), "{told}");
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_the_command_line_is_told_before_anything_starts() -> std::io::Result<()> {
        let (code, told) = run(&["try", "/nowhere/file.sql"])?;
        assert!(code == Some(2) && told.contains("/nowhere/file.sql"), "{told}");
        let (code, told) = run(&["try", DEMO, "--method", "guessing"])?;
        assert!(code == Some(2) && told.contains("there are: debezium"), "{told}");
        Ok(())
    }

    #[test]
    fn what_there_is_is_listed_without_an_engine() -> std::io::Result<()> {
        let (code, told) = run(&["list"])?;
        assert_eq!(code, Some(0));
        assert!(told.contains("update_of_a_primary_key") && told.contains("3584 MB"), "{told}");
        Ok(())
    }

    #[test]
    fn generated_rows_are_the_same_each_time() -> std::io::Result<()> {
        let arguments =
            ["generate", "--table", "orders", "--rows", "3", "--seed", "7", "--locale", "de", "--format", "jsonl"];
        let (code, rows) = run(&arguments)?;
        assert_eq!((code, rows.lines().count()), (Some(0), 3), "{rows}");
        assert_eq!(run(&arguments)?.1, rows);
        Ok(())
    }
}
