//! Flags about what is offered beyond what an agent has, and taken back.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use mesita_core::resources::Amount;
use mesita_core::resources::text::{TextValue, resources};

use super::text::{Duration, Share};

/// Who says what of an agent may be offered twice. Mesos: `ResourceEstimator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Estimator {
    /// The operator: so much, all the time.
    Fixed(String),
    /// CPUs that tasks hold and do not use.
    Usage,
}

impl FromStr for Estimator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "usage" {
            return Ok(Self::Usage);
        }
        let told = text.strip_prefix("fixed=");
        let told =
            told.ok_or("expected `usage`, or `fixed=` and resources: `fixed=cpus:2;mem:512`")?;
        for entry in resources(told) {
            let entry = entry.map_err(|bad| bad.to_string())?;
            if entry.role != "*" || !matches!(entry.value, TextValue::Scalar(_)) {
                let name = entry.name;
                return Err(format!("`{name}`: only plain amounts may be taken back"));
            }
        }
        Ok(Self::Fixed(told.to_owned()))
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(told) => write!(f, "fixed={told}"),
            Self::Usage => f.write_str("usage"),
        }
    }
}

/// Who says that it has to be given back. Mesos: `QoSController`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Controller {
    /// The load of the machine, by --load-threshold-5min and -15min: then all of it
    Load,
    /// What waits for CPU, memory or disks, by --pressure-threshold-cpu and its like: then one task
    /// after the other, who uses most first
    Pressure,
}

/// A number with up to three digits behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// Thousandths.
    pub(crate) milli: u64,
}

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let amount = Amount::parse(text).map_err(|bad| bad.to_string())?;
        Ok(Self { milli: amount.milli() })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Amount::from_milli(self.milli).fmt(f)
    }
}

/// What an operator chose about it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Spare {
    /// What is offered to frameworks that know REVOCABLE_RESOURCES beyond what the agent has: `usage`,
    /// the CPUs that tasks hold and do not use, or `fixed=cpus:2;mem:512` [default: nothing]
    #[arg(long, value_name = "ESTIMATOR")]
    pub(crate) resource_estimator: Option<Estimator>,
    /// From one estimate to the next
    #[arg(long, value_name = "DURATION", default_value = "15secs")]
    pub(crate) oversubscribed_resources_interval: Duration,
    /// Who has it given back [default: nobody]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) qos_controller: Vec<Controller>,
    /// The least time from one correction to the next; a second is the least
    #[arg(long, value_name = "DURATION", default_value = "0ns")]
    pub(crate) qos_correction_interval_min: Duration,
    /// The load of 5 minutes above which all is given back
    #[arg(long, value_name = "NUMBER")]
    pub(crate) load_threshold_5min: Option<Number>,
    /// The load of 15 minutes
    #[arg(long, value_name = "NUMBER")]
    pub(crate) load_threshold_15min: Option<Number>,
    /// The part of 10 seconds in which something waited for a CPU above which a task goes
    #[arg(long, value_name = "SHARE")]
    pub(crate) pressure_threshold_cpu: Option<Share>,
    /// The same for memory
    #[arg(long, value_name = "SHARE")]
    pub(crate) pressure_threshold_memory: Option<Share>,
    /// The same for disks
    #[arg(long, value_name = "SHARE")]
    pub(crate) pressure_threshold_io: Option<Share>,
    /// Give revocable CPUs a hundredth of the weight of others
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) revocable_cpu_low_priority: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimator_is_one_of_two_and_says_amounts() {
        assert_eq!("usage".parse(), Ok(Estimator::Usage));
        let fixed = "fixed=cpus:2;mem:512".parse::<Estimator>().unwrap();
        assert_eq!(fixed.to_string(), "fixed=cpus:2;mem:512");
        for bad in ["", "fixed", "fixed=cpus", "fixed=ports:[1-2]", "fixed=cpus(web):1"] {
            assert!(bad.parse::<Estimator>().is_err(), "{bad}");
        }
        assert_eq!("0.5".parse::<Number>().map(|number| number.milli), Ok(500));
    }
}
