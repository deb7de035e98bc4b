//! Filters of system calls: rules, and the program that the kernel runs at each call.
//!
//! The kernel's machine reads words of what was called: its number, the machine that it was called
//! as, and arguments of 64 bits in halves. A call as another machine (32 bits on one of 64) fails as
//! one that does not exist, for its numbers are not those of the rules.

use crate::keeper::wall::{FILTER_MAX, Wall};
use crate::sys::Sys;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action(pub(super) u32);

impl Action {
    pub(super) const ALLOW: Self = Self(0x7fff_0000);
    pub(super) const LOG: Self = Self(0x7ffc_0000);
    pub(super) const TRAP: Self = Self(0x0003_0000);
    pub(super) const KILL_THREAD: Self = Self(0);
    pub(super) const KILL_PROCESS: Self = Self(0x8000_0000);

    /// It fails with this number.
    pub(crate) const fn errno(errno: i32) -> Self {
        Self(0x0005_0000 | errno.cast_unsigned() & 0xfff)
    }
}

/// How an argument compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Its bits among these are `value`.
    Masked(u64),
}

/// A condition on an argument, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) argument: u8,
    pub(crate) compare: Compare,
    pub(crate) value: u64,
}

/// What becomes of a call of this number whose arguments meet all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) number: u32,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) action: Action,
}

/// Rules, and what becomes of what none of them is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) otherwise: Action,
    /// From this number on, up to the machine's own, calls do not exist.
    pub(super) unknown_from: u32,
    pub(super) rules: Vec<Rule>,
}

/// `audit.h`: the machine that this is, with its word size and order of bytes.
const MACHINE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else if cfg!(target_arch = "arm") {
    Some(0x4000_0028)
} else if cfg!(target_arch = "x86") {
    Some(0x4000_0003)
} else {
    None
};

/// True where filters can be made and the kernel takes them.
pub(crate) fn can_filter(sys: &dyn Sys) -> bool {
    MACHINE.is_some() && sys.can_filter_calls()
}

/// On x86-64, the bit of calls with pointers of 32 bits.
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const MACHINE_AT: u32 = 4;
const ARGUMENTS: u32 = 16;

const fn instruction(code: u16, yes: u8, no: u8, k: u32) -> u64 {
    code as u64 | (yes as u64) << 16 | (no as u64) << 24 | (k as u64) << 32
}

/// Instructions of a condition, each that does not hold ending in a jump to be filled in.
fn condition(of: Condition) -> Vec<u64> {
    let (low, high) = {
        let first = ARGUMENTS + 8 * u32::from(of.argument);
        if cfg!(target_endian = "big") { (first + 4, first) } else { (first, first + 4) }
    };
    let mask = if let Compare::Masked(mask) = of.compare { mask } else { u64::MAX };
    let [mask_low, mask_high] = halves(mask);
    let [value_low, value_high] = halves(of.value);
    let fail = instruction(JUMP, 0, 0, 0);
    let load = |at, mask| [instruction(LOAD, 0, 0, at), instruction(AND, 0, 0, mask)];
    let (first, second) = (load(high, mask_high), load(low, mask_low));
    let test = |code, yes, no, k| instruction(code, yes, no, k);
    let mut all = first.to_vec();
    match of.compare {
        Compare::Equal | Compare::Masked(_) => {
            all.extend([test(IF_EQUAL, 1, 0, value_high), fail]);
            all.extend(second);
            all.extend([test(IF_EQUAL, 1, 0, value_low), fail]);
        }
        Compare::NotEqual => {
            all.push(test(IF_EQUAL, 0, 4, value_high));
            all.extend(second);
            all.extend([test(IF_EQUAL, 0, 1, value_low), fail]);
        }
        Compare::Greater | Compare::GreaterOrEqual => {
            let code = if of.compare == Compare::Greater { IF_GREATER } else { IF_NOT_LESS };
            all.extend([
                test(IF_GREATER, 6, 0, value_high),
                test(IF_EQUAL, 1, 0, value_high),
                fail,
            ]);
            all.extend(second);
            all.extend([test(code, 1, 0, value_low), fail]);
        }
        Compare::Less | Compare::LessOrEqual => {
            let code = if of.compare == Compare::Less { IF_NOT_LESS } else { IF_GREATER };
            all.extend([
                test(IF_GREATER, 1, 0, value_high),
                test(IF_EQUAL, 1, 5, value_high),
                fail,
            ]);
            all.extend(second);
            all.extend([test(code, 0, 1, value_low), fail]);
        }
    }
    all
}

/// The low half, and the high one.
#[allow(clippy::cast_possible_truncation)] // That is what halves are.
const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// All conditions of a rule and what it does; what does not hold jumps behind it.
fn rule(rule: &Rule) -> Vec<u64> {
    let mut all: Vec<u64> = rule.conditions.iter().flat_map(|&of| condition(of)).collect();
    all.push(instruction(RETURN, 0, 0, rule.action.0));
    let end = all.len();
    for (at, word) in all.iter_mut().enumerate() {
        if *word == instruction(JUMP, 0, 0, 0) {
            let over = u32::try_from(end - at - 1).unwrap_or(0);
            *word = instruction(JUMP, 0, 0, over);
        }
    }
    all
}

impl Filter {
    /// The program; none if it is longer than the kernel takes, or this machine has no name.
    pub(super) fn program(&self) -> Option<Vec<u64>> {
        let missing = instruction(RETURN, 0, 0, Action::errno(libc::ENOSYS).0);
        let mut program = vec![
            instruction(LOAD, 0, 0, MACHINE_AT),
            instruction(IF_EQUAL, 1, 0, MACHINE?),
            missing,
            instruction(LOAD, 0, 0, NUMBER),
        ];
        if cfg!(target_arch = "x86_64") {
            program.extend([instruction(IF_NOT_LESS, 0, 1, X32), missing]);
        }
        let mut numbers: Vec<u32> = self.rules.iter().map(|rule| rule.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let of = |rule: &&Rule| rule.number == number;
            let (always, sometimes): (Vec<_>, Vec<_>) =
                self.rules.iter().filter(of).partition(|rule| rule.conditions.is_empty());
            // What holds for any arguments comes last, and what was said last counts.
            let rules = sometimes.into_iter().chain(always.last().copied());
            let mut block: Vec<u64> = rules.flat_map(rule).collect();
            // Conditions leave an argument where the number was.
            block.push(instruction(RETURN, 0, 0, self.otherwise.0));
            let over = u32::try_from(block.len()).ok()?;
            program.extend([instruction(IF_EQUAL, 1, 0, number), instruction(JUMP, 0, 0, over)]);
            program.extend(block);
        }
        if self.unknown_from != 0 {
            program.push(instruction(IF_NOT_LESS, 0, 2, self.unknown_from));
            program.extend([instruction(IF_NOT_LESS, 1, 0, super::calls::OWN), missing]);
        }
        program.push(instruction(RETURN, 0, 0, self.otherwise.0));
        (program.len() <= FILTER_MAX).then_some(program)
    }
}

/// A program that decides by these rules before it does what it did; none if it is longer than the
/// kernel takes. Rules are by number alone, whichever machine a call was made as.
fn before(rules: &[Rule], program: &[u64]) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    for of in rules {
        let block = rule(of);
        let over = u32::try_from(block.len()).ok()?;
        all.extend([
            instruction(LOAD, 0, 0, NUMBER),
            instruction(IF_EQUAL, 1, 0, of.number),
            instruction(JUMP, 0, 0, over),
        ]);
        all.extend(block);
    }
    all.extend(program);
    (all.len() <= FILTER_MAX).then_some(all)
}

/// Has what a process is behind decide by these rules first; false if that is longer than the kernel takes.
pub(crate) fn put_before(rules: &[Rule], walls: &mut Vec<Wall>) -> bool {
    let there = walls.iter_mut().find_map(|wall| {
        let Wall::Seccomp { program } = wall else { return None };
        Some(program)
    });
    let decides = match &there {
        Some(program) => before(rules, program),
        None => open().and_then(|open| before(rules, &open)),
    };
    let Some(decides) = decides else { return false };
    match there {
        Some(program) => *program = decides,
        None => walls.push(Wall::Seccomp { program: decides }),
    }
    true
}

/// A program that allows every call of this machine.
fn open() -> Option<Vec<u64>> {
    Filter { otherwise: Action::ALLOW, unknown_from: 0, rules: Vec::new() }.program()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of a call.
    #[allow(clippy::cast_possible_truncation)] // Words are taken apart.
    fn run(program: &[u64], machine: u32, number: u32, arguments: [u64; 6]) -> Action {
        let word = |at: u32| match at {
            NUMBER => number,
            MACHINE_AT => machine,
            at => {
                let half = usize::from((at % 8 == 4) != cfg!(target_endian = "big"));
                halves(arguments[usize::try_from((at - ARGUMENTS) / 8).unwrap()])[half]
            }
        };
        let (mut at, mut held) = (0, 0);
        loop {
            let of = program[at];
            let [low, k] = halves(of);
            let (yes, no) = (usize::from((low >> 16) as u8), usize::from((low >> 24) as u8));
            let go = |is: bool| if is { yes } else { no };
            at += 1;
            at += match (low & 0xffff) as u16 {
                LOAD => {
                    held = word(k);
                    0
                }
                AND => {
                    held &= k;
                    0
                }
                JUMP => usize::try_from(k).unwrap(),
                IF_EQUAL => go(held == k),
                IF_GREATER => go(held > k),
                IF_NOT_LESS => go(held >= k),
                RETURN => return Action(k),
                other => panic!("{other:x}"),
            };
        }
    }

    fn one(compare: Compare, value: u64) -> Vec<u64> {
        let conditions = vec![Condition { argument: 1, compare, value }];
        let rules = vec![Rule { number: 7, conditions, action: Action::TRAP }];
        Filter { otherwise: Action::ALLOW, unknown_from: 0, rules }.program().unwrap()
    }

    #[test]
    fn every_comparison_is_that_of_64_bits() {
        let values = [0, 1, 5, u64::from(u32::MAX), 1 << 32, (1 << 32) + 5, 6 << 32, u64::MAX];
        type Is = fn(u64, u64) -> bool;
        let comparisons: [(Compare, Is); 7] = [
            (Compare::Equal, |a, b| a == b),
            (Compare::NotEqual, |a, b| a != b),
            (Compare::Less, |a, b| a < b),
            (Compare::LessOrEqual, |a, b| a <= b),
            (Compare::Greater, |a, b| a > b),
            (Compare::GreaterOrEqual, |a, b| a >= b),
            (Compare::Masked(0x1_0000_0005), |a, b| a & 0x1_0000_0005 == b),
        ];
        for (compare, is) in comparisons {
            for value in values {
                let program = one(compare, value);
                for argument in values {
                    let done = run(&program, MACHINE.unwrap(), 7, [9, argument, 9, 9, 9, 9]);
                    let expected = if is(argument, value) { Action::TRAP } else { Action::ALLOW };
                    assert_eq!(done, expected, "{argument:x} {compare:?} {value:x}");
                }
            }
        }
    }

    #[test]
    fn another_machine_another_call_and_one_that_nobody_knows() {
        let rules = vec![Rule { number: 7, conditions: Vec::new(), action: Action::TRAP }];
        let filter = Filter { otherwise: Action::ALLOW, unknown_from: 400, rules };
        let program = filter.program().unwrap();
        let missing = Action::errno(libc::ENOSYS);
        let asked = |machine, number| run(&program, machine, number, [0; 6]);
        let here = MACHINE.unwrap();
        assert_eq!(asked(here, 7), Action::TRAP);
        assert_eq!(asked(here, 8), Action::ALLOW);
        assert_eq!(asked(here, 399), Action::ALLOW);
        assert_eq!(asked(here, 400), missing);
        assert_eq!(asked(here, super::super::calls::OWN), Action::ALLOW);
        assert_eq!(asked(here ^ 1, 8), missing);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(asked(here, X32 | 8), missing);
        }
    }

    #[test]
    fn the_first_rule_whose_conditions_are_met_counts_then_the_one_without() {
        let on = |value, action| Rule {
            number: 7,
            conditions: vec![Condition { argument: 0, compare: Compare::Equal, value }],
            action,
        };
        let always = Rule { number: 7, conditions: Vec::new(), action: Action::LOG };
        let rules = vec![always, on(1, Action::TRAP), on(2, Action::KILL_PROCESS)];
        let program =
            Filter { otherwise: Action::ALLOW, unknown_from: 0, rules }.program().unwrap();
        let asked = |first| run(&program, MACHINE.unwrap(), 7, [first, 0, 0, 0, 0, 0]);
        assert_eq!(
            [asked(1), asked(2), asked(3)],
            [Action::TRAP, Action::KILL_PROCESS, Action::LOG]
        );
    }

    #[test]
    fn what_comes_before_a_program_decides_first_and_leaves_the_rest_to_it() {
        let on = |value| Rule {
            number: 7,
            conditions: vec![Condition {
                argument: 1,
                compare: Compare::Masked(u32::MAX.into()),
                value,
            }],
            action: Action::errno(libc::EPERM),
        };
        let rules = [on(3), on(4), Rule { conditions: Vec::new(), ..on(0) }];
        let rules = [rules[0].clone(), rules[1].clone(), Rule { number: 9, ..rules[2].clone() }];
        let program = before(&rules, &one(Compare::Equal, 5)).unwrap();
        let asked = |number, first| run(&program, MACHINE.unwrap(), number, [0, first, 0, 0, 0, 0]);
        let refused = Action::errno(libc::EPERM);
        for first in [3, 4, 1 << 40 | 4] {
            assert_eq!(asked(7, first), refused, "{first}");
        }
        assert_eq!(asked(7, 5), Action::TRAP);
        assert_eq!(asked(7, 6), Action::ALLOW);
        assert_eq!(asked(8, 3), Action::ALLOW);
        assert_eq!(asked(9, 0), refused);
        assert!(before(&rules, &vec![0; FILTER_MAX]).is_none());
        assert_eq!(run(&open().unwrap(), MACHINE.unwrap(), 7, [0; 6]), Action::ALLOW);
    }

    #[test]
    fn a_program_longer_than_the_kernel_takes_is_none() {
        let rule = |number| Rule { number, conditions: Vec::new(), action: Action::TRAP };
        let filter = |rules: u32| Filter {
            otherwise: Action::ALLOW,
            unknown_from: 0,
            rules: (0..rules).map(rule).collect(),
        };
        assert!(filter(1000).program().is_some());
        assert!(filter(2000).program().is_none());
    }
}
