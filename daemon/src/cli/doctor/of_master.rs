//! `mesita doctor master`: what a master with these flags would find, and what to change.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use mesita_core::wire::hello::Role;
use mesita_core::wire::link::Parting;

use super::{Finding, State, machine, masters, place, secrets};
use crate::cli::master::{opened, reached_at};
use crate::cli::{default_work_dir, join, registry};
use crate::conn::hello::{Own, Refused};
use crate::flags::Master;
use crate::set::begin::together;
use crate::set::charter::Given;
use crate::set::join::heard_by;
use crate::set::sealed::Keys;
use crate::tls::{Served, Trust, reached};

/// Everything; nothing is changed.
pub(super) fn examine(flags: &Master) -> Result<Vec<Finding>, crate::cli::Failure> {
    let mut flags = flags.clone();
    let work_dir = match &flags.work_dir {
        Some(work_dir) => work_dir.clone(),
        None => default_work_dir("master")?,
    };
    join::fill(&mut flags, &Given::of(&work_dir.join("meta")));
    crate::cli::master::bare(&mut flags.set.masters);
    let mut found = Vec::from(machine::of_master());
    let running = place::is_used(&work_dir);
    found.extend(place::of_master(&work_dir, running, flags.decisions.timing.us()));
    found.push(of_registry(&work_dir, running));
    found.extend(ports(&flags, running));
    found.extend(secrets::of_master(&flags, &work_dir));
    found.push(keys(&flags.set.gossip_key_file));
    found.extend(others(&flags));
    Ok(found)
}

/// Whether what must not be forgotten can be read.
fn of_registry(work_dir: &Path, running: bool) -> Finding {
    let of = "registry";
    if running {
        return Finding::on(of, "the master that runs has it, so it was not read");
    }
    if !work_dir.join("meta/set").exists() && !work_dir.join("meta/registry").exists() {
        return Finding::on(of, "no master was here: one begins with an empty one");
    }
    match registry::examined(work_dir) {
        Ok(says) => Finding::on(of, says),
        Err(why) => {
            let do_this = "`mesita registry show --work-dir` tells what is there; of a set, the others have \
                           it: `mesita masters replace`";
            Finding::new(of, State::Fails, format!("{}; {do_this}", why.replace("; ", ", ")))
        }
    }
}

/// Its port, by TCP and, where there are others, by datagrams; and who may come in.
fn ports(flags: &Master, running: bool) -> Vec<Finding> {
    let address = SocketAddr::new(flags.listen.ip, flags.port);
    let mut found = vec![place::port(address, running.then_some("master"))];
    if !flags.set.masters.is_empty() && !running {
        let of = "port for datagrams";
        found.push(match UdpSocket::bind(address) {
            Ok(_) => Finding::on(of, format!("{address} is free")),
            Err(error) => {
                let port = flags.port;
                let sentence = format!(
                    "{address}: {error}; `ss -lunp 'sport = :{port}'` names who has it: end that, or give \
                     another --port"
                );
                Finding::new(of, State::Fails, sentence)
            }
        });
    }
    found.push(Finding::of_result(
        "doors",
        opened(flags)
            .map(|_| "credentials and rules can be read")
            .map_err(|failure| failure.message),
    ));
    found
}

/// The keys of datagrams.
fn keys(files: &[PathBuf]) -> Finding {
    let of = "gossip key";
    if files.is_empty() {
        let sentence = "none is given, so all masters have to be on this machine; \
                        `umask 077; head -c 32 /dev/urandom > FILE`, and --gossip-key-file of each";
        return Finding::new(of, State::Skipped, sentence);
    }
    match Keys::read(files) {
        Ok(_) => Finding::on(of, "it can be read, by nobody else"),
        Err(bad) => {
            let sentence = bad.to_string();
            // What to do stands behind the last colon.
            let sentence = match sentence.rsplit_once(": ") {
                Some((what, fix)) if fix.starts_with("ch") || fix.starts_with("make") => {
                    format!("{what}; {fix}")
                }
                _ => format!("{sentence}; see --gossip-key-file: all masters have the same"),
            };
            Finding::new(of, State::Fails, sentence)
        }
    }
}

/// Whether those of the others that answer hear datagrams at the same port, too: by those alone they elect.
fn datagrams(flags: &Master, others: &[String], each: &[Finding]) -> Vec<Finding> {
    let there = others.iter().zip(each).filter(|(_, one)| one.state == State::On);
    let there: Vec<String> = there.map(|(address, _)| address.clone()).collect();
    if there.is_empty() {
        return Vec::new();
    }
    let keys = if flags.set.gossip_key_file.is_empty() {
        Ok(Keys::of_loopback())
    } else {
        Keys::read(&flags.set.gossip_key_file)
    };
    // What is wrong with them was told.
    let Ok(keys) = keys else { return Vec::new() };
    let heard =
        UdpSocket::bind((flags.listen.ip, 0)).and_then(|socket| heard_by(&socket, &keys, &there));
    let heard = match heard {
        Ok(heard) => heard,
        Err(error) => {
            let sentence =
                format!("no datagram can be sent from {}: {error}; see --ip", flags.listen.ip);
            return vec![Finding::new("datagrams", State::Degraded, sentence)];
        }
    };
    let told = there.iter().zip(heard).map(|(address, heard)| {
        let of = format!("datagrams {address}");
        if heard {
            return Finding::on(of, "it hears datagrams, and is heard");
        }
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let sentence = format!(
            "it answers by TCP, and no datagram gets an answer; let UDP port {port} through any firewall in \
             between, both ways, and look whether its --gossip-key-file is the same, and its set is made: \
             masters elect by datagrams alone"
        );
        Finding::new(of, State::Degraded, sentence)
    });
    told.collect()
}

/// Whether each of the other masters is there, and why not, and whether they are enough.
fn others(flags: &Master) -> Vec<Finding> {
    let (host, port) = reached_at(flags, flags.listen.ip);
    let me = together(&host, port);
    let all = &flags.set.masters;
    if all.is_empty() {
        return vec![Finding::new("masters", State::Skipped, "this is the only one")];
    }
    let mut found = Vec::new();
    if !all.contains(&me) && flags.set.join.is_none() {
        let sentence = format!(
            "{me} is not in --masters {}; name it there as the others do, or say by --advertise-ip and \
             --advertise-port as which of them it is reached",
            all.join(",")
        );
        found.push(Finding::new("masters", State::Degraded, sentence));
    }
    let others: Vec<&String> = all.iter().filter(|one| **one != me).collect();
    if others.is_empty() {
        found.push(Finding::new("masters", State::Skipped, "this is the only one"));
        return found;
    }
    let anchor = opened(flags).ok().and_then(|(door, _)| door.tls.as_ref().map(Served::anchor));
    let scheme = if anchor.is_some() { "https://" } else { "" };
    let said = others.iter().map(|one| format!("{scheme}{one}"));
    let trust = Trust { pin: anchor, insecure: flags.listen.insecure, ..Trust::default() };
    let (addresses, over) = match reached(said, trust) {
        Ok(reached) => reached,
        Err(why) => {
            found.push(Finding::new("masters", State::Fails, why));
            return found;
        }
    };
    let own = Own::new(Role::Client);
    let each: Vec<Finding> =
        addresses
            .iter()
            .map(|address| {
                let of = format!("master {address}");
                match masters::asked_once(address, &over, &own) {
                    // Who asks for a credential, or for a leader, is there.
                    Ok(())
                    | Err(Refused::Redirect(_) | Refused::Auth)
                    | Err(Refused::Bye(
                        Parting::Denied | Parting::NoLeader | Parting::Overloaded,
                        _,
                    )) => Finding::on(of, "it answers"),
                    Err(refused) => {
                        let sentence = format!("{refused}; {}", masters::remedy(&refused));
                        Finding::new(of, State::Degraded, sentence)
                    }
                }
            })
            .collect();
    let bare: Vec<String> = others.iter().map(|one| (*one).clone()).collect();
    let datagrams = datagrams(flags, &bare, &each);
    let there = each.iter().filter(|one| one.state == State::On).count() + 1;
    found.extend(each);
    found.extend(datagrams);
    if flags.set.join.is_none() && there <= all.len() / 2 {
        let sentence = format!(
            "{there} of {} would be there, and fewer than a majority decide nothing; start the others, or \
             look why they are not reached",
            all.len()
        );
        found.push(Finding::new("majority", State::Fails, sentence));
    }
    found
}
