//! `cdc list`: what there is.

use anstyle::Style;
use changeproof::runner::Catalogue;

const BOLD: Style = Style::new().bold();

pub(crate) fn print(catalogues: &[&Catalogue]) {
    for catalogue in catalogues {
        anstream::println!("{BOLD}{}{BOLD:#}", catalogue.storage);
        anstream::println!("  methods");
        let width = catalogue.methods.iter().map(|method| method.name().len()).max().unwrap_or(0);
        for method in catalogue.methods {
            let services = method.services();
            let memory_mb: u32 = services.iter().map(|service| service.memory_mb()).sum();
            let named: Vec<_> =
                services.iter().map(|service| format!("{} {} MB", service.title(), service.memory_mb())).collect();
            anstream::println!("    {BOLD}{:width$}{BOLD:#}  {}", method.name(), method.summary());
            if services.is_empty() {
                anstream::println!("    {:width$}  needs no service", "");
            } else {
                anstream::println!("    {:width$}  needs {}; {memory_mb} MB in all", "", named.join(", "));
            }
            if let Some(why) = method.needs_own_server() {
                anstream::println!("    {:width$}  has a server of its own: {why}", "");
            }
        }
        let scenarios = catalogue.scenarios();
        anstream::println!("  scenarios ({})", scenarios.len());
        let width = scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
        for scenario in scenarios {
            anstream::println!("    {:width$}  {}", scenario.name, scenario.summary());
        }
    }
    anstream::println!("\nRun one: cargo nextest run -E 'test(=METHOD::SCENARIO)'");
}
