//! The syntax tree. What POSIX (Shell Command Language, 2.9 and 2.10) names is named so here.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// Commands one after the other.
pub type List = Vec<Item>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub and_or: AndOr,
    /// Ended by `&`.
    pub background: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AndOr {
    pub first: Pipeline,
    pub rest: Vec<(Connector, Pipeline)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connector {
    And,
    Or,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    pub negated: bool,
    /// Preceded by `time`.
    pub timed: bool,
    /// Empty only after `time` alone.
    pub commands: Vec<Command>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub kind: Kind,
    pub redirects: Vec<Redirect>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Simple {
        assignments: Vec<(String, Word)>,
        words: Vec<Word>,
    },
    Group(List),
    Subshell(List),
    If {
        arms: Vec<(List, List)>,
        otherwise: Option<List>,
    },
    /// `while`, or `until`.
    Loop {
        until: bool,
        condition: List,
        body: List,
    },
    /// Without words: over `"$@"`.
    For {
        name: String,
        words: Option<Vec<Word>>,
        body: List,
    },
    Case {
        subject: Word,
        arms: Vec<(Vec<Word>, List)>,
    },
    Function {
        name: String,
        body: Rc<Command>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub fd: u32,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `<`
    Read(Word),
    /// `>` and `>|`
    Write(Word),
    /// `>>`
    Append(Word),
    /// `<>`
    ReadWrite(Word),
    /// `>&` and `<&`: a number, or `-` to close.
    Duplicate(Word),
    /// A here-document's or here-string's text.
    Here(Word),
}

/// A word before expansion. No two literals of a kind stand side by side.
pub type Word = Vec<Part>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Unquoted text: pattern characters act.
    Literal(String),
    /// Quoted text; empty where the word says `""`.
    Quoted(String),
    /// `~` or `~/` at the start of a word.
    Tilde,
    Parameter {
        parameter: Parameter,
        quoted: bool,
    },
    /// `$(…)` and backquotes.
    Command {
        list: List,
        quoted: bool,
    },
    /// `$((…))`: the expression's text with its expansions.
    Arithmetic {
        expression: Word,
        quoted: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: Name,
    pub operation: Operation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Variable(String),
    /// `$1` …; 0 is the shell's name.
    Positional(u32),
    /// One of `@ * # ? - $ !`.
    Special(char),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Plain,
    /// `${#x}`
    Length,
    /// `${x:-word}` and its kin; `colon`: an empty value counts as unset.
    Default {
        colon: bool,
        word: Word,
    },
    Assign {
        colon: bool,
        word: Word,
    },
    Error {
        colon: bool,
        word: Word,
    },
    Alternative {
        colon: bool,
        word: Word,
    },
    /// `${x#pattern}`, `##`, `%`, `%%`.
    Trim {
        suffix: bool,
        longest: bool,
        pattern: Box<Word>,
    },
}
