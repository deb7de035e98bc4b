//! What services are to the init systems, and what is asked of those that run.

use std::process::Command;

use super::Place;
use crate::cli::{Failure, USAGE};
use crate::flags::{Daemon, Init};

/// A daemon that an init system begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) init: Init,
    pub(super) daemon: Daemon,
}

/// What begins services on the machine of a root.
pub(super) fn found(place: &Place<'_>) -> Result<Init, Failure> {
    let has = |paths: &[&str]| paths.iter().any(|path| place.at(path).exists());
    if has(&["/run/systemd/system", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"]) {
        return Ok(Init::Systemd);
    }
    if has(&["/sbin/openrc-run", "/usr/sbin/openrc-run"]) {
        return Ok(Init::Openrc);
    }
    let message = format!(
        "{} has neither systemd nor OpenRC; name the one it will have by --init, or have something \
         else begin `mesita {}` again whenever it ends",
        place.root.display(),
        place.daemon.name()
    );
    Err(Failure::new(USAGE, message))
}

impl Service {
    pub(super) fn name(self) -> String {
        format!("mesita-{}", self.daemon.name())
    }

    /// The file that describes it.
    pub(super) fn file(self) -> String {
        let name = self.name();
        match self.init {
            Init::Systemd => format!("/etc/systemd/system/{name}.service"),
            Init::Openrc => format!("/etc/init.d/{name}"),
        }
    }

    /// The link by which it begins with the machine.
    pub(super) fn link(self) -> String {
        let name = self.name();
        match self.init {
            Init::Systemd => {
                format!("/etc/systemd/system/multi-user.target.wants/{name}.service")
            }
            Init::Openrc => format!("/etc/runlevels/default/{name}"),
        }
    }

    /// Where it logs to, if that is a file.
    pub(super) fn log(self) -> Option<String> {
        match self.init {
            Init::Systemd => None,
            Init::Openrc => Some(format!("/var/log/{}.log", self.name())),
        }
    }

    pub(super) const fn mode(self) -> u32 {
        match self.init {
            Init::Systemd => 0o644,
            Init::Openrc => 0o755,
        }
    }

    pub(super) fn text(self, program: &str, config: &str) -> String {
        match self.init {
            Init::Systemd => self.unit(program, config),
            Init::Openrc => self.script(program, config),
        }
    }

    fn unit(self, program: &str, config: &str) -> String {
        let daemon = self.daemon.name();
        let holds = match self.daemon {
            Daemon::Master => "",
            // Tasks outlive the agent; they are in its cgroup, whose limits it hands on itself; and
            // one of them that was killed for its memory is no reason to end the others.
            Daemon::Agent => {
                "KillMode=process\nDelegate=yes\nTasksMax=infinity\nOOMPolicy=continue\n"
            }
        };
        format!(
            "[Unit]\n\
             Description=Mesita {daemon}\n\
             Documentation=man:mesita-{daemon}(1)\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             ExecStart={program} {daemon} --config {config}\n\
             Restart=always\n\
             RestartSec=1\n\
             # What is wrong in its file does not get right by itself.\n\
             RestartPreventExitStatus=2\n\
             {holds}\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        )
    }

    fn script(self, program: &str, config: &str) -> String {
        let daemon = self.daemon.name();
        let log = self.log().unwrap_or_default();
        format!(
            "#!/sbin/openrc-run\n\
             name=\"Mesita {daemon}\"\n\
             supervisor=supervise-daemon\n\
             command={program}\n\
             command_args=\"{daemon} --config {config}\"\n\
             respawn_delay=1\n\
             respawn_max=0\n\
             error_log={log}\n\
             # Tasks outlive the agent.\n\
             rc_cgroup_cleanup=no\n\
             \n\
             depend() {{\n\
             \tneed net\n\
             \tuse dns clock cgroups\n\
             \tafter firewall\n\
             }}\n"
        )
    }

    /// Begins it, or begins it anew; tasks of an agent run on.
    pub(super) fn restart(self) -> Result<(), Failure> {
        let name = self.name();
        match self.init {
            Init::Systemd => {
                run(&["systemctl", "daemon-reload"])?;
                run(&["systemctl", "restart", &name])?;
                outln!("mesita: started; `systemctl status {name}` tells how it is");
            }
            Init::Openrc => {
                run(&["rc-service", &name, "restart"])?;
                outln!("mesita: started; `rc-service {name} status` tells how it is");
            }
        }
        Ok(())
    }

    /// Ends it. That it does not run is what was wanted.
    pub(super) fn stop(self) {
        let name = self.name();
        let _ = match self.init {
            Init::Systemd => run(&["systemctl", "stop", &name]),
            Init::Openrc => run(&["rc-service", &name, "stop"]),
        };
    }

    /// Has it forgotten once its file is gone.
    pub(super) fn forget(self) {
        if self.init == Init::Systemd {
            let _ = run(&["systemctl", "daemon-reload"]);
            let _ = run(&["systemctl", "reset-failed", &self.name()]);
        }
    }
}

fn run(words: &[&str]) -> Result<(), Failure> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let told = Command::new(program).args(arguments).output();
    let failed =
        |why: &dyn std::fmt::Display| Failure::plain(format!("`{}`: {why}", words.join(" ")));
    let told = told.map_err(|error| failed(&error))?;
    if told.status.success() {
        return Ok(());
    }
    Err(failed(&String::from_utf8_lossy(&told.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_hands_on_its_cgroup_and_leaves_its_tasks_alone() {
        let agent = Service { init: Init::Systemd, daemon: Daemon::Agent };
        let unit = agent.text("/usr/bin/mesita", "/etc/mesita/agent.toml");
        for line in [
            "ExecStart=/usr/bin/mesita agent --config /etc/mesita/agent.toml",
            "KillMode=process",
            "Delegate=yes",
            "Restart=always",
            "OOMPolicy=continue",
            "WantedBy=multi-user.target",
        ] {
            assert!(unit.lines().any(|told| told == line), "{line} in {unit}");
        }
        let master = Service { daemon: Daemon::Master, ..agent };
        assert!(!master.text("", "").contains("Delegate"), "a master holds no tasks");
    }
}
