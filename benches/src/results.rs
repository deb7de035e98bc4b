//! `benches/RESULTS.md` and its plot, made of the lines of JSON that the cases print.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

/// One figure, as a case has printed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Figure {
    case: String,
    what: String,
    agents: u64,
    frameworks: u64,
    unit: String,
    values: BTreeMap<String, u64>,
}

/// Figures of Mesos for the same, in ms: the median of its own benchmark on a machine of this kind.
const MESOS: [(&str, &str, u64, u64, u64); 14] = [
    ("a2", "all free", 1_000, 50, 21),
    ("a2", "all free", 1_000, 200, 21),
    ("a2", "all free", 5_000, 200, 114),
    ("a2", "all free", 10_000, 1_000, 506),
    ("a2", "none dirty", 1_000, 50, 3),
    ("a2", "none dirty", 10_000, 1_000, 20),
    ("b1", "cycle", 1_000, 50, 63),
    ("b1", "cycle", 1_000, 200, 77),
    ("b1", "cycle", 10_000, 200, 718),
    ("b1", "cycle", 10_000, 1_000, 1_016),
    ("b4", "cycle 1", 3_000, 3_000, 11_671),
    ("b4", "cycle 2", 3_000, 3_000, 9_634),
    ("b6", "all frameworks added", 3_000, 3_000, 12_921),
    ("b7", "all uses back", 50_000, 1_000, 3_325),
];

/// Reads the lines that cases have printed; what is no figure is passed over.
fn figures(lines: &str) -> Vec<Figure> {
    lines.lines().filter_map(figure).collect()
}

/// One flat object: the cases print nothing else, and no text in them has a quote or a comma in it.
fn figure(line: &str) -> Option<Figure> {
    let inside = line.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut figure = Figure::default();
    let mut rest = inside;
    while let Some((key, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once("\":")) {
        let (value, next) = match after.strip_prefix('"') {
            Some(text) => {
                let (value, next) = text.split_once('"')?;
                (value, next.trim_start_matches(','))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key {
            "case" => value.clone_into(&mut figure.case),
            "what" => value.clone_into(&mut figure.what),
            "unit" => value.clone_into(&mut figure.unit),
            "agents" => figure.agents = value.parse().ok()?,
            "frameworks" => figure.frameworks = value.parse().ok()?,
            _ => {
                figure.values.insert(key.to_owned(), value.parse().ok()?);
            }
        }
        rest = next;
    }
    (!figure.case.is_empty()).then_some(figure)
}

/// The page: what was measured where, and a row for each figure.
pub fn page(lines: &str) -> String {
    let mut page = String::from(
        "# What decisions cost\nMade by `ci/bench`, which runs every case of `mesita-benches` and \
         writes this page and its plot. Times are ns of wall time unless the unit says otherwise; \
         the last column is the median of Mesos' own benchmark of that name on a machine of this \
         kind, in ms, and how many times ours it is.\n\n",
    );
    let _ = writeln!(page, "{}\n", machine());
    page += "![Time of a cycle against agents times frameworks, with Mesos' own](cycle.svg)\n\n";
    page += "| case | what | agents | frameworks | unit | min | p50 | p99 | max | n | Mesos |\n";
    page += "|---|---|--:|--:|---|--:|--:|--:|--:|--:|--:|\n";
    for one in figures(lines) {
        let value =
            |name: &str| one.values.get(name).or(one.values.get("value").filter(|_| name == "p50"));
        let shown = |name: &str| value(name).map_or(String::new(), |number| grouped(*number));
        let many = |number: u64| if number == 0 { String::new() } else { grouped(number) };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            one.case,
            one.what,
            many(one.agents),
            many(one.frameworks),
            one.unit,
            shown("min"),
            shown("p50"),
            shown("p99"),
            shown("max"),
            shown("n"),
            peer(&one),
        );
    }
    page
}

fn peer(one: &Figure) -> String {
    let same = |row: &&(&str, &str, u64, u64, u64)| {
        (row.0, row.1, row.2, row.3) == (&*one.case, &*one.what, one.agents, one.frameworks)
    };
    let ours = one.values.get("p50").copied().unwrap_or(0).max(1);
    MESOS.iter().find(same).map_or(String::new(), |row| {
        let times = row.4.saturating_mul(1_000_000) / ours;
        format!("{} ms, {}x", grouped(row.4), grouped(times))
    })
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Which machine, which commit, how busy.
fn machine() -> String {
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
    };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let load = read("/proc/loadavg");
    format!(
        "{} CPUs, {}; Linux {}; {}; commit {}; load before: {}.",
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        model.unwrap_or("unknown"),
        said("uname", &["-r"]),
        said("rustc", &["--version"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

/// The plot: time of a cycle in which all agents are free, and of a cycle after everything was
/// declined, both logarithmic.
pub fn plot(lines: &str) -> String {
    let (wide, high) = (720.0, 420.0);
    // 10^1..10^8 agents times frameworks; 1 µs..10 s.
    let across = |pairs: f64| 70.0 + (pairs.log10() - 1.0) / 7.0 * (wide - 90.0);
    let up = |ns: f64| high - 50.0 - (ns.log10() - 3.0) / 7.0 * (high - 80.0);
    let mut drawn = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{wide}\" height=\"{high}\" \
         fill=\"white\"/>\n"
    );
    for power in 1..=8i32 {
        let at = across(10f64.powi(power));
        let bottom = high - 50.0;
        let _ = writeln!(
            drawn,
            "<path d=\"M{at:.0} 30V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.0}\" y=\"{:.0}\" \
             text-anchor=\"middle\">10^{power}</text>",
            high - 32.0
        );
    }
    let names = ["1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms", "1 s", "10 s"];
    for (power, name) in (3i32..).zip(names) {
        let at = up(10f64.powi(power));
        let _ = writeln!(
            drawn,
            "<path d=\"M70 {at:.0}H{:.0}\" stroke=\"#ddd\"/><text x=\"64\" y=\"{:.0}\" \
             text-anchor=\"end\">{name}</text>",
            wide - 20.0,
            at + 4.0
        );
    }
    let all = figures(lines);
    let ours = |case: &str, what: &str| -> Vec<(f64, f64)> {
        let of = all.iter().filter(|one| one.case == case && one.what == what);
        of.filter_map(|one| {
            Some((product(one.agents, one.frameworks), exact(*one.values.get("p50")?)))
        })
        .collect()
    };
    let theirs = |case: &str, what: &str| -> Vec<(f64, f64)> {
        let of = MESOS.iter().filter(|row| (row.0, row.1) == (case, what));
        of.map(|row| (product(row.2, row.3), exact(row.4) * 1e6)).collect()
    };
    let series = [
        ("cycle, all free", "#1666b0", ours("a2", "all free")),
        ("cycle after declining everything", "#2a8a3a", ours("b1", "cycle")),
        ("Mesos: cycle, all free", "#d06a1a", theirs("a2", "all free")),
        ("Mesos: cycle after declining everything", "#b02030", theirs("b1", "cycle")),
    ];
    for ((name, colour, points), row) in series.into_iter().zip(0u8..) {
        for (pairs, ns) in points {
            let (x, y) = (across(pairs), up(ns));
            let _ =
                writeln!(drawn, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
        }
        let y = 44.0 + 18.0 * f64::from(row);
        let _ = writeln!(
            drawn,
            "<circle cx=\"84\" cy=\"{y}\" r=\"4\" fill=\"{colour}\"/><text x=\"94\" \
             y=\"{:.0}\">{name}</text>",
            y + 4.0
        );
    }
    let _ = writeln!(
        drawn,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">agents x frameworks</text>\n</svg>",
        wide / 2.0,
        high - 10.0
    );
    drawn
}

fn product(agents: u64, frameworks: u64) -> f64 {
    exact(agents) * exact(frameworks)
}

#[allow(clippy::cast_precision_loss)] // It is drawn.
fn exact(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "{\"case\":\"b1\",\"what\":\"cycle\",\"agents\":10000,\"frameworks\":1000,\
                         \"unit\":\"ns\",\"min\":1,\"p50\":10160000,\"p99\":3,\"max\":4,\"n\":5}\nno figure\n";

    #[test]
    fn a_figure_is_a_row_with_the_peer_beside_it() {
        let page = page(LINES);
        let row =
            "| b1 | cycle | 10,000 | 1,000 | ns | 1 | 10,160,000 | 3 | 4 | 5 | 1,016 ms, 100x |";
        assert!(page.contains(row), "{page}");
        assert!(!page.contains("no figure"));
    }

    #[test]
    fn a_figure_is_a_point() {
        let plot = plot(LINES);
        assert_eq!(plot.matches("<circle").count(), 1 + 4 + 8, "{plot}");
        assert!(plot.ends_with("</svg>\n"));
    }
}
