//! The binary `prevalence`: see the library of this package.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let code = prevalence_cli::run(std::env::args_os(), &mut io::stdout().lock());
    ExitCode::from(code)
}
