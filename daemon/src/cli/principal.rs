//! `mesita principal`: who may use the cluster, beside those of the master's --credentials.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use mesita_core::wire::svc::{Keep, Stream};
use serde_json::{Value, json};

use super::ps::{columns, text};
use super::{Failure, ask};
use crate::access::kept::{OWNER, Terms};
use crate::alarm;
use crate::flags::{Principal, PrincipalAdd, Where};

pub(super) fn main(flags: &Principal) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        Principal::Add(flags) => add(flags)?,
        Principal::Rm(flags) => {
            asked(&flags.at, &flags.name, Keep::Remove { expected: None })?;
        }
        Principal::Ls(flags) => {
            let kind = Stream::Store { owner: OWNER, key: "", verb: Keep::List };
            return ask::list(&flags.at, flags.json, kind, table);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws a secret, has a majority of the masters keep it, and gives it away once.
fn add(flags: &PrincipalAdd) -> Result<(), Failure> {
    let secret: [u8; 24] = crate::random::bytes();
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let credential = json!({"principal": flags.name, "secret": secret}).to_string();
    // Nobody has a credential that could not be written.
    let file = flags.out.as_deref().map(|path| {
        let made = File::options().write(true).create_new(true).mode(0o600).open(path);
        made.map_err(|error| Failure::plain(format!("--out: {}: {error}", path.display())))
    });
    let file = file.transpose()?;
    let terms = Terms {
        secret,
        roles: flags.role.clone(),
        users: flags.user.clone(),
        operate: flags.operate,
        agent: flags.agent,
    };
    let value = serde_json::to_vec(&terms).map_err(Failure::plain)?;
    let expected = (!flags.replace).then_some(0);
    let kept = asked(&flags.at, &flags.name, Keep::Put { value: &value, expected });
    if let (Err(_), Some(path)) = (&kept, &flags.out) {
        let _ = std::fs::remove_file(path);
    }
    kept?;
    match file {
        Some(mut file) => writeln!(file, "{credential}").map_err(Failure::plain)?,
        None => outln!("{credential}"),
    }
    Ok(())
}

fn asked(at: &Where, key: &str, verb: Keep<'_>) -> Result<(), Failure> {
    alarm::block_on(ask::all(at, Stream::Store { owner: OWNER, key, verb })).map(|_| ())
}

fn table(rows: &[Value]) -> String {
    let head = ["PRINCIPAL", "ROLES", "USERS", "MAY"].map(str::to_owned).to_vec();
    let lines = rows.iter().map(|row| {
        let names = |of: &str| {
            let names: Vec<String> = row[of].as_array().into_iter().flatten().map(text).collect();
            names.join(",")
        };
        let may = ["operate", "agent"].into_iter().filter(|of| row[*of] == true);
        let users = Some(names("users")).filter(|users| !users.is_empty());
        let users = users.unwrap_or_else(|| "all but root".to_owned());
        vec![text(&row["principal"]), names("roles"), users, may.collect::<Vec<_>>().join(",")]
    });
    columns(&[head].into_iter().chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_a_line_with_what_it_may() {
        let rows = [
            json!({"principal": "web", "roles": ["web", "web/%"], "users": [], "operate": false}),
            json!({"principal": "ops", "roles": [], "users": ["root"], "operate": true}),
        ];
        assert_eq!(
            table(&rows),
            "PRINCIPAL  ROLES      USERS         MAY\n\
             web        web,web/%  all but root\n\
             ops                   root          operate\n"
        );
    }
}
