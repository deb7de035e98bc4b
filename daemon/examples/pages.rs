//! Writes completions for shells and man pages, out of the one description of the command line:
//! `pages DIRECTORY`. `ci/package` puts them beside the binary, which is not made larger by them.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let into: PathBuf = std::env::args_os().nth(1).ok_or("usage: pages DIRECTORY")?.into();
    let mut command = mesita::command_line();
    for (shell, directory, file) in [
        (Shell::Bash, "share/bash-completion/completions", "mesita"),
        (Shell::Zsh, "share/zsh/vendor-completions", "_mesita"),
        (Shell::Fish, "share/fish/vendor_completions.d", "mesita.fish"),
    ] {
        let made =
            clap_complete::generate_to(shell, &mut command, "mesita", made(&into, directory)?)?;
        std::fs::rename(&made, made.with_file_name(file))?;
    }
    // What clap adds to every command is no page of its own.
    let pages = command.disable_help_subcommand(true);
    clap_mangen::generate_to(pages, made(&into, "share/man/man1")?)?;
    Ok(())
}

fn made(into: &Path, directory: &str) -> std::io::Result<PathBuf> {
    let directory = into.join(directory);
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
