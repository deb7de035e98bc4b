//! `mesita init`

use std::fs::DirBuilder;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

use super::{Failure, USAGE, addresses};
use crate::access::tokens::{FIRST_TOKENS, Join, NodeRole, Token, kept};
use crate::agent::prepare::open_to_others;
use crate::flags::NewCluster;
use crate::identity;
use crate::set::begin::together;
use crate::tls::{Served, Signer, made};

/// How long the first tokens count, and for how many nodes beside this one they are.
const DAY_US: u64 = 24 * 3_600_000_000;
const USES: u32 = 16;

/// What there is of a cluster that was made, or that a master has begun: none of it can be made again.
const MADE: [&str; 4] =
    ["ca.pem", "master/meta/registry", "master/meta/set", "master/meta/authority"];

pub(super) fn main(flags: &NewCluster) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let directory = match &flags.dir {
        Some(directory) => std::path::absolute(directory).map_err(Failure::plain)?,
        None => super::default_work_dir(&flags.name)?,
    };
    if flags.name.is_empty()
        || !flags.name.bytes().all(|of| of.is_ascii_alphanumeric() || of == b'-')
    {
        return Err(Failure::new(USAGE, "--name: letters, digits and hyphens"));
    }
    let ip = flags.ip.map_or_else(addresses::only_one, Ok);
    let ip = ip.map_err(|why| Failure::new(USAGE, why))?;
    if ip.is_unspecified() {
        let why = "--ip: an address by which other machines reach this one, not every address";
        return Err(Failure::new(USAGE, why));
    }
    if flags.port == 0 {
        let why = "--port: a number that other machines find, not one that differs with each start";
        return Err(Failure::new(USAGE, why));
    }
    if std::net::UdpSocket::bind((ip, 0)).is_err() {
        log::warn!(
            "{ip} is no address of this machine yet: its master does not start before it is"
        );
    }
    if let Some(trouble) = open_to_others(&directory) {
        return Err(Failure::plain(format!("--dir: {trouble}").replace("--work-dir", "--dir")));
    }
    if flags.cloud_init && ip.is_loopback() {
        return Err(Failure::new(USAGE, format!("--ip: no other machine reaches {ip}")));
    }
    if let Some(of) = MADE.iter().find(|name| directory.join(name).exists()) {
        let why = format!(
            "{} has a cluster already, whose {of} is there: give another --dir",
            directory.display()
        );
        return Err(Failure::plain(why));
    }
    let made = make(flags, ip, &directory).map_err(Failure::plain)?;
    if flags.cloud_init {
        eprint!("{}", made.to_do);
        super::print(cloud_init(&made.master, &made.token));
    } else {
        super::print(made.to_do);
    }
    Ok(ExitCode::SUCCESS)
}

/// What was made.
struct Made {
    /// How others reach its master.
    master: String,
    /// What the nodes of other machines join by.
    token: String,
    /// What is to be done with it, for whoever made it.
    to_do: String,
}

/// User data of cloud-init(1) that makes a machine on which the package is an agent, as a service.
fn cloud_init(master: &str, token: &str) -> String {
    const FILE: &str = "/etc/mesita/agent.token";
    let command = ["/usr/bin/mesita", "install", "agent", "--", "--master", master, "--join", FILE];
    // A text, and a list of texts, of JSON are such of YAML.
    let [file, token] = [FILE, token].map(|text| serde_json::json!(text));
    let command = serde_json::json!(command);
    format!(
        "#cloud-config\n# For machines that have mesita at /usr/bin: their package, or an image with it.\n\
         write_files:\n- path: {file}\n  permissions: '0600'\n  content: {token}\n\
         runcmd:\n- {command}\n"
    )
}

/// Makes all files. The authority's certificate comes last: until it is
/// there nothing has been made.
fn make(flags: &NewCluster, ip: IpAddr, directory: &Path) -> Result<Made, String> {
    let meta = directory.join("master/meta");
    // Tasks of the agent go through to their sandboxes; each file with a secret is closed by itself.
    for (path, mode) in [(directory, 0o711), (&meta, 0o700)] {
        let made = DirBuilder::new().recursive(true).mode(mode).create(path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = [ip.to_string(), node, "localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = made::make(&flags.name, &hosts).map_err(|error| error.to_string())?;
    let file = |name: &str| directory.join(name);
    let write = |name: &str, text: &str| {
        identity::write(&file(name), text.as_bytes()).map_err(|error| error.to_string())
    };
    write("ca.key", &made.authority_key)?;
    write("master.pem", &made.signed.certificate)?;
    write("master.key", &made.signed.key)?;
    let gossip: [u8; 32] = crate::random::bytes();
    identity::write(&file("gossip.key"), &gossip).map_err(|error| error.to_string())?;
    let served = Served::read(&file("master.pem"), &file("master.key"), Signer::OfTheCluster)?;
    let [own, others] = [(); 2].map(|()| Join::draw(served.anchor()));
    let token = |join: &Join, uses| {
        let role = NodeRole::Agent;
        (join.id, Token { role, uses, left_us: DAY_US, secret: join.hash() })
    };
    let tokens = kept(&vec![token(&own, 1), token(&others, USES)]);
    identity::write(&meta.join(FIRST_TOKENS), &tokens).map_err(|error| error.to_string())?;
    write("agent.token", &own.to_string())?;
    let secret: [u8; 16] = crate::random::bytes();
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut one = serde_json::json!({ "principal": "operator", "secret": secret });
    write("operator", &one.to_string())?;
    one["operate"] = true.into();
    one["roles"] = serde_json::json!(["/%"]);
    write("credentials", &serde_json::json!({ "credentials": [one] }).to_string())?;
    let port = flags.port;
    let at = |name: &str| file(name).display().to_string();
    // A text of JSON is one of TOML.
    let text = |name: &str| serde_json::Value::from(at(name)).to_string();
    let address = together(&ip.to_string(), port);
    write(
        "master.toml",
        &format!(
            "ip = \"{ip}\"\nport = {port}\nmasters = \"{address}\"\nwork_dir = {}\n\
         gossip_key_file = [{}, {}]\ntls_cert_file = {}\ntls_key_file = {}\ntls_ca_key_file = {}\n\
         credentials = {}\nauthenticate_agents = true\nauthenticate_http_readonly = true\n\
         authenticate_http_readwrite = true\nauthenticate_http_frameworks = true\n\
         audit_log = {}\n",
            text("master"),
            text("gossip.key"),
            text("gossip2.key"),
            text("master.pem"),
            text("master.key"),
            text("ca.key"),
            text("credentials"),
            text("master/audit.log"),
        ),
    )?;
    write(
        "agent.toml",
        &format!(
            "master = \"https://{address}\"\nwork_dir = {}\njoin = {}\n",
            text("agent"),
            text("agent.token"),
        ),
    )?;
    write("ca.pem", &made.authority)?;
    let to_do = format!(
        "cluster {name} is made in {dir}{found}. Start its first master and agent:\n  \
         mesita master --config {master}\n  mesita agent --config {agent}\n\
         or have them begin with the machine:\n  mesita install master -- --config {master}\n  \
         mesita install agent -- --config {agent}\n\
         {elsewhere}, within a day, on up to {USES}:\n  mesita agent --master https://{address} \
         --join {others}\nTwo more masters, so that any one may be gone: `mesita token create --role master \
         --uses 2` prints what to start.\nTo operate it:\n  export MESITA_MASTER=https://{address} \
         MESITA_CREDENTIAL={operator} MESITA_TLS_CA_FILE={ca}\n  mesita run --user nobody -- echo hello\n",
        found = match flags.ip {
            Some(_) => String::new(),
            None => format!(", at {ip}, the only address by which others reach this machine"),
        },
        elsewhere = match ip.is_loopback() {
            true =>
                "No other machine reaches this address, or can join: for that, make a cluster at another \
                     --ip. Here, with a --work-dir each",
            false => "On other machines",
        },
        name = flags.name,
        dir = directory.display(),
        master = at("master.toml"),
        agent = at("agent.toml"),
        operator = at("operator"),
        ca = at("ca.pem"),
    );
    Ok(Made { master: format!("https://{address}"), token: others.to_string(), to_do })
}
