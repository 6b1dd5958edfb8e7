//! Parse, run, turn an error into a message and an exit code; nothing else.

fn main() -> std::process::ExitCode {
    goflow::cli::main()
}
