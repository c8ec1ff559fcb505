//! The functions to probe, and the convention that they are called by.

use super::goroutine::goroutine_of;
use crate::code;
use crate::elf::{Elf, FileOffset, GoFunction, Pclntab};
use crate::plan::{Arch, GoAbi, GoKeyLogForm, Goroutine, Missing, Probe, Role};

/// The end of the name of what every secret passes through.
pub(super) const KEY_LOG: &str = ".(*Config).writeKeyLog";
const WRITE: &str = ".(*Conn).writeRecordLocked";
const READ: &str = ".(*Conn).Read";
const CLOSE: &str = ".(*Conn).Close";

/// The functions of every package of an image that is made like crypto/tls.
pub(super) struct Functions<'d> {
    implementations: Vec<Implementation<'d>>,
}

/// One package: `crypto/tls`, or a fork of it.
pub(super) struct Implementation<'d> {
    pub(super) package: &'d str,
    write: Option<GoFunction<'d>>,
    read: Option<GoFunction<'d>>,
    close: Option<GoFunction<'d>>,
    key_log: Option<GoFunction<'d>>,
}

/// What all functions of an image have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conventions {
    pub(super) abi: GoAbi,
    pub(super) goroutine: Goroutine,
    pub(super) key_log: GoKeyLogForm,
}

const STANDARD: &str = "crypto/tls";

impl<'d> Functions<'d> {
    pub(super) fn of(elf: &Elf<'_>, table: &Pclntab<'d>) -> Self {
        // A program may link two or three forks; hundreds are hostile.
        const MOST: usize = 8;
        // Other packages have a type `Conn` too: a fork is what also has the key log. Of
        // crypto/tls itself a part is enough to say what the rest is missing for. It comes
        // first: it is what others are compared with.
        let key_logs = table.ending_in(elf, &[KEY_LOG]);
        let forks = key_logs
            .iter()
            .filter_map(|function| function.name.strip_suffix(KEY_LOG))
            .filter(|package| *package != STANDARD);
        let packages = std::iter::once(STANDARD).chain(forks).take(MOST);
        let all = packages.map(|package| Implementation::of(elf, table, package));
        let implementations = all.filter(Implementation::has_any).collect();
        Self { implementations }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.implementations.is_empty()
    }

    pub(super) fn implementations(&self) -> &[Implementation<'d>] {
        &self.implementations
    }
}

impl<'d> Implementation<'d> {
    fn of(elf: &Elf<'_>, table: &Pclntab<'d>, package: &'d str) -> Self {
        let names = [KEY_LOG, WRITE, READ, CLOSE].map(|ending| format!("{package}{ending}"));
        let endings = names.each_ref().map(String::as_str);
        let functions = table.ending_in(elf, &endings);
        let [key_log, write, read, close] = names.map(|name| {
            let mut found = functions.iter();
            found.find(|function| function.name == name).cloned()
        });
        Self {
            package,
            write,
            read,
            close,
            key_log,
        }
    }

    fn has_any(&self) -> bool {
        let all = [&self.write, &self.read, &self.close, &self.key_log];
        all.into_iter().any(Option::is_some)
    }
}

impl Implementation<'_> {
    /// The probes of what is there, the convention they are called by, and what is not there.
    pub(super) fn probes(
        &self,
        elf: &Elf<'_>,
        table: &Pclntab<'_>,
    ) -> (Vec<Probe>, Option<Conventions>, Vec<Missing>) {
        let mut missing = Vec::new();
        let mut lacks = |name: &str, why: String| {
            missing.push(Missing {
                what: format!("`{}{name}`", self.package),
                why,
            });
        };
        let conventions = match self.conventions(elf) {
            Ok(conventions) => conventions,
            Err(why) => {
                lacks("", why);
                return (Vec::new(), None, missing);
            }
        };
        let abi = conventions.abi;
        let mut probes = Vec::new();
        for (role, name, function) in [
            (Role::GoWrite, WRITE, &self.write),
            (Role::GoRead, READ, &self.read),
            (Role::GoClose, CLOSE, &self.close),
            (Role::GoKeyLog, KEY_LOG, &self.key_log),
        ] {
            let found = match function {
                Some(function) if !fits(function, role, abi) => Err(unexpected(function)),
                Some(function) => probe(elf, table, role, function),
                None if table.mentions(&format!("{}{name}", self.package)) => {
                    Err("the compiler merged it into its callers".into())
                }
                None => Err("the linker left it out: nothing in the program calls it".into()),
            };
            match found {
                Ok(probe) => probes.push(probe),
                Err(why) => lacks(name, why),
            }
        }
        (probes, Some(conventions), missing)
    }

    /// The table and the code must agree on the convention.
    fn conventions(&self, elf: &Elf<'_>) -> Result<Conventions, String> {
        let (any, form) = [
            (&self.write, RECORD),
            (&self.read, DATA),
            (&self.key_log, LABELLED),
        ]
        .into_iter()
        .find_map(|(function, form)| Some((function.as_ref()?, form)))
        .ok_or("it has none of the functions to probe")?;
        let abi = abi_of(any, form).ok_or_else(|| unexpected(any))?;
        let goroutine = goroutine_of(elf, any.code.start).ok_or_else(|| {
            format!(
                "how `{}` begins at {} does not tell where its goroutine is",
                any.name, any.code.start
            )
        })?;
        let is_register = goroutine == Goroutine::Register;
        if elf.arch == Arch::X86_64 && is_register != (abi == GoAbi::Register) {
            return Err(format!(
                "its function table tells of arguments in {abi:?} form, and `{}` has {goroutine:?}",
                any.name
            ));
        }
        let form = self
            .key_log
            .as_ref()
            .and_then(|key_log| form_of(key_log, abi));
        Ok(Conventions {
            abi,
            goroutine,
            key_log: form.unwrap_or(GoKeyLogForm::Labelled),
        })
    }
}

/// What the table counts of a function's arguments and results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    /// In the register ABI: room to spill the arguments to.
    register: u32,
    /// In the stack ABI: all.
    stack: u32,
}

const fn form(arguments: u32, results: u32) -> Form {
    const WORD: u32 = 8;
    Form {
        register: arguments * WORD,
        stack: (arguments + results) * WORD,
    }
}

/// A receiver, a type, a slice; an `int` and an `error`.
const RECORD: Form = form(1 + 1 + 3, 1 + 2);
/// A receiver, a slice; an `int` and an `error`.
const DATA: Form = form(1 + 3, 1 + 2);
/// A receiver; an `error`.
const RECEIVER: Form = form(1, 2);
/// A receiver, a string, two slices; an `error`.
const LABELLED: Form = form(1 + 2 + 3 + 3, 2);
/// A receiver, two slices; an `error`.
const MASTER_SECRET: Form = form(1 + 3 + 3, 2);

impl Form {
    fn bytes(self, abi: GoAbi) -> u32 {
        match abi {
            GoAbi::Register => self.register,
            GoAbi::Stack => self.stack,
        }
    }
}

fn abi_of(function: &GoFunction<'_>, form: Form) -> Option<GoAbi> {
    let mut both = [GoAbi::Register, GoAbi::Stack].into_iter();
    both.find(|abi| form.bytes(*abi) == function.arguments)
}

fn form_of(key_log: &GoFunction<'_>, abi: GoAbi) -> Option<GoKeyLogForm> {
    let forms = [
        (LABELLED, GoKeyLogForm::Labelled),
        (MASTER_SECRET, GoKeyLogForm::MasterSecret),
    ];
    let mut forms = forms.into_iter();
    let fitting = forms.find(|(form, _)| form.bytes(abi) == key_log.arguments);
    fitting.map(|(_, form)| form)
}

fn fits(function: &GoFunction<'_>, role: Role, abi: GoAbi) -> bool {
    match role {
        Role::GoKeyLog => form_of(function, abi).is_some(),
        Role::GoWrite => RECORD.bytes(abi) == function.arguments,
        Role::GoClose => RECEIVER.bytes(abi) == function.arguments,
        _ => DATA.bytes(abi) == function.arguments,
    }
}

fn unexpected(function: &GoFunction<'_>) -> String {
    format!(
        "the arguments of `{}` take {} bytes, which fits no form of it that is known",
        function.name, function.arguments
    )
}

fn probe(
    elf: &Elf<'_>,
    table: &Pclntab<'_>,
    role: Role,
    function: &GoFunction<'_>,
) -> Result<Probe, String> {
    let start = function.code.start;
    let offset = elf
        .file_offset(start)
        .ok_or_else(|| format!("it should be at {start}, where the file holds no code"))?;
    let returns = if role.is_data() {
        returns(elf, function)?
    } else {
        Vec::new()
    };
    Ok(Probe {
        role,
        symbol: Some(function.name.to_owned()),
        address: start,
        offset,
        returns,
        evidence: format!(
            "named in Go's function table at {}, {} bytes of arguments",
            table.address, function.arguments
        ),
    })
}

fn returns(elf: &Elf<'_>, function: &GoFunction<'_>) -> Result<Vec<FileOffset>, String> {
    let places = code::returns_of(elf, &function.code)
        .ok_or("its code is not understood to its end, so where it returns is not known")?;
    let offsets: Option<Vec<_>> = places.iter().map(|at| elf.file_offset(*at)).collect();
    offsets
        .filter(|offsets| !offsets.is_empty())
        .ok_or_else(|| "it never returns".into())
}
