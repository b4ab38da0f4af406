//! [`Filter`]: which items are searched, by their metadata: `modality = "CR" and view in ("PA", "AP") and not age < 18`.

use std::fmt::Write as _;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Bytes of a filter. A value takes two of them at least, so that SQLite has a parameter for each, of 32,766.
const MAX_LETTERS: usize = 60_000;
/// Parentheses and `not`s within each other.
const MAX_DEPTH: usize = 100;

/// A condition on the metadata of an item.
///
/// `FIELD = VALUE`, also `!=`, `<`, `<=`, `>`, `>=`; `FIELD in (VALUE, ...)`; `FIELD is null`; these joined by `and`, `or`, `not` and
/// parentheses, `and` before `or`. A value is a text in quotes (a quote within is written twice), a number, `true` or `false`; a
/// field with other signs than letters, digits, `_`, `-`, `.` and `/` stands in backquotes. Words may be in capitals.
///
/// A field that an item lacks, or that is of another type than the value, makes every comparison with it false, `!=` included.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// A field beside a value.
    Compare {
        /// The field.
        field: String,
        /// How they must stand to each other.
        how: Comparison,
        /// A text, number or truth value.
        value: Value,
    },
    /// A field is one of several values.
    In {
        /// The field.
        field: String,
        /// Texts, numbers or truth values.
        values: Vec<Value>,
    },
    /// An item lacks a field.
    IsNull(String),
    /// All hold.
    And(Vec<Filter>),
    /// One holds at least.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
}

/// How a field and a value must stand to each other. Texts are compared by their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    const ALL: [(&'static str, Self); 6] = [
        ("!=", Self::NotEqual),
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("=", Self::Equal),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn sign(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(_, own)| *own == self)
            .map_or("=", |(sign, _)| sign)
    }

    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Filter {
    /// Whether it holds for an item with this metadata.
    pub fn matches(&self, metadata: &Map<String, Value>) -> bool {
        let beside = |field: &String, how: Comparison, value: &Value| {
            let own = metadata.get(field);
            let order = own.and_then(|own| compare(own, value));
            order.is_some_and(|order| how.holds(order))
        };
        match self {
            Self::Compare { field, how, value } => beside(field, *how, value),
            Self::In { field, values } => values
                .iter()
                .any(|value| beside(field, Comparison::Equal, value)),
            Self::IsNull(field) => metadata.get(field).is_none_or(Value::is_null),
            Self::And(all) => all.iter().all(|one| one.matches(metadata)),
            Self::Or(all) => all.iter().any(|one| one.matches(metadata)),
            Self::Not(one) => !one.matches(metadata),
        }
    }

    /// It as a condition on the JSON column `metadata`, its values as parameters appended to `values`.
    pub(super) fn sql(&self, dialect: Dialect, values: &mut Vec<Value>) -> String {
        let mut sql = String::new();
        self.write_sql(dialect, &mut sql, values);
        sql
    }

    fn write_sql(&self, dialect: Dialect, sql: &mut String, values: &mut Vec<Value>) {
        let written = match self {
            Self::Compare { field, how, value } => {
                let field = dialect.field(field, values);
                let (is_such, own) = dialect.own(&field, Kind::of(value));
                let value = dialect.value(value, values);
                write!(sql, "({is_such} AND {own} {} {value})", how.sign())
            }
            Self::In { field, values: any } => {
                let field = dialect.field(field, values);
                let mut of_kind = |kind: Kind| {
                    let such = any.iter().filter(|value| Kind::of(value) == kind);
                    let such: Vec<String> =
                        such.map(|value| dialect.value(value, values)).collect();
                    let (is_such, own) = dialect.own(&field, kind);
                    let such = such.join(", ");
                    (!such.is_empty()).then(|| format!("{is_such} AND {own} IN ({such})"))
                };
                let all = [Kind::Text, Kind::Number, Kind::Truth];
                let all: Vec<String> = all.into_iter().filter_map(&mut of_kind).collect();
                match all.is_empty() {
                    true => write!(sql, "FALSE"),
                    false => write!(sql, "({})", all.join(" OR ")),
                }
            }
            Self::IsNull(field) => {
                let kind = dialect.kind(&dialect.field(field, values));
                write!(sql, "(coalesce({kind}, 'null') = 'null')")
            }
            Self::And(all) => join(all, ("AND", "TRUE"), dialect, sql, values),
            Self::Or(all) => join(all, ("OR", "FALSE"), dialect, sql, values),
            Self::Not(one) => {
                sql.push_str("(NOT ");
                one.write_sql(dialect, sql, values);
                sql.push(')');
                Ok(())
            }
        };
        written.expect("a text takes what is written");
    }
}

fn join(
    all: &[Filter],
    (by, of_none): (&str, &str),
    dialect: Dialect,
    sql: &mut String,
    values: &mut Vec<Value>,
) -> std::fmt::Result {
    match all {
        [] => write!(sql, "{of_none}"),
        [one] => {
            one.write_sql(dialect, sql, values);
            Ok(())
        }
        // In halves: SQLite takes expressions of some depth, and a chain is as deep as it is long.
        _ => {
            let (first, second) = all.split_at(all.len() / 2);
            sql.push('(');
            join(first, (by, of_none), dialect, sql, values)?;
            write!(sql, " {by} ")?;
            join(second, (by, of_none), dialect, sql, values)?;
            write!(sql, ")")
        }
    }
}

/// What can be compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Truth,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::Text,
            Value::Number(_) => Self::Number,
            _ => Self::Truth,
        }
    }
}

/// What a condition is written in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    /// Parameters `?1`, JSON as text.
    Sqlite,
    /// Parameters `$1`, all of them texts; JSON as `jsonb`.
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Dialect {
    /// A field as a parameter.
    fn field(self, field: &str, values: &mut Vec<Value>) -> String {
        let name = match self {
            Self::Sqlite => format!("$.\"{field}\""),
            #[cfg(feature = "postgres")]
            Self::Postgres => field.to_owned(),
        };
        self.value(&Value::String(name), values)
    }

    /// A value as a parameter.
    fn value(self, value: &Value, values: &mut Vec<Value>) -> String {
        values.push(value.clone());
        let place = values.len();
        match self {
            Self::Sqlite => format!("?{place}"),
            #[cfg(feature = "postgres")]
            Self::Postgres if Kind::of(value) == Kind::Text => format!("${place}::text"),
            #[cfg(feature = "postgres")]
            Self::Postgres => format!("${place}::text::jsonb"),
        }
    }

    /// The JSON type of a field; null where an item lacks it.
    fn kind(self, field: &str) -> String {
        match self {
            Self::Sqlite => format!("json_type(metadata, {field})"),
            #[cfg(feature = "postgres")]
            Self::Postgres => format!("jsonb_typeof(metadata -> {field})"),
        }
    }

    /// Whether a field is of a kind, and what it is then.
    fn own(self, field: &str, kind: Kind) -> (String, String) {
        let (types, own) = match (self, kind) {
            (Self::Sqlite, _) => {
                let types = match kind {
                    Kind::Text => "'text'",
                    Kind::Number => "'integer', 'real'",
                    Kind::Truth => "'true', 'false'",
                };
                (types, format!("json_extract(metadata, {field})"))
            }
            // By bytes, whatever the database's language.
            #[cfg(feature = "postgres")]
            (Self::Postgres, Kind::Text) => {
                let own = format!("(metadata ->> {field}) COLLATE \"C\"");
                ("'string'", own)
            }
            #[cfg(feature = "postgres")]
            (Self::Postgres, Kind::Number) => ("'number'", format!("(metadata -> {field})")),
            #[cfg(feature = "postgres")]
            (Self::Postgres, Kind::Truth) => ("'boolean'", format!("(metadata -> {field})")),
        };
        let is_such = format!("coalesce({}, '') IN ({types})", self.kind(field));
        (is_such, own)
    }
}

/// `None` where the types differ.
fn compare(own: &Value, value: &Value) -> Option<std::cmp::Ordering> {
    match (own, value) {
        (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        _ => None,
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_LETTERS {
            return Err(Error::Limit {
                what: "the length of a filter in bytes",
                got: text.len() as u64,
                limit: MAX_LETTERS as u64,
            });
        }
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
        };
        let filter = parser.any()?;
        match parser.next()? {
            None => Ok(filter),
            Some(_) => Err(parser.wrong("and, or, or the end")),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A field in backquotes.
    Field(String),
    /// A bare word: a field, or `and`, `true`, ...
    Word(String),
    Value(Value),
    Sign(&'static str),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn wrong(&self, expected: &str) -> Error {
        Error::BadArgument(format!(
            "filter: expected {expected} before letter {}",
            self.text[..self.at].chars().count() + 1
        ))
    }

    fn any(&mut self) -> Result<Filter> {
        let mut all = vec![self.all()?];
        while self.takes_word("or")? {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Filter::Or(all)
        })
    }

    fn all(&mut self) -> Result<Filter> {
        let mut all = vec![self.one()?];
        while self.takes_word("and")? {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Filter::And(all)
        })
    }

    fn one(&mut self) -> Result<Filter> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::Limit {
                what: "the depth of a filter",
                got: self.depth as u64,
                limit: MAX_DEPTH as u64,
            });
        }
        let filter = match self.next()? {
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("not") => {
                Filter::Not(Box::new(self.one()?))
            }
            Some(Token::Sign("(")) => {
                let inner = self.any()?;
                self.sign(")")?;
                inner
            }
            Some(Token::Word(field) | Token::Field(field)) => self.comparison(field)?,
            _ => return Err(self.wrong("a field, not, or a parenthesis")),
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn comparison(&mut self, field: String) -> Result<Filter> {
        match self.next()? {
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("in") => {
                self.sign("(")?;
                let mut values = vec![self.value()?];
                loop {
                    match self.next()? {
                        Some(Token::Sign(",")) => values.push(self.value()?),
                        Some(Token::Sign(")")) => return Ok(Filter::In { field, values }),
                        _ => return Err(self.wrong("a comma or a closing parenthesis")),
                    }
                }
            }
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("is") => {
                let not = self.takes_word("not")?;
                if !self.takes_word("null")? {
                    return Err(self.wrong("null"));
                }
                let is_null = Filter::IsNull(field);
                Ok(if not {
                    Filter::Not(Box::new(is_null))
                } else {
                    is_null
                })
            }
            Some(Token::Sign(sign)) => {
                let how = Comparison::ALL.iter().find(|(own, _)| *own == sign);
                let (_, how) = how.ok_or_else(|| self.wrong("a comparison"))?;
                let value = self.value()?;
                Ok(Filter::Compare {
                    field,
                    how: *how,
                    value,
                })
            }
            _ => Err(self.wrong("a comparison, in, or is")),
        }
    }

    fn value(&mut self) -> Result<Value> {
        match self.next()? {
            Some(Token::Value(value)) => Ok(value),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            _ => Err(self.wrong("a text in quotes, a number, true or false")),
        }
    }

    fn sign(&mut self, sign: &'static str) -> Result<()> {
        match self.next()? {
            Some(Token::Sign(own)) if own == sign => Ok(()),
            _ => Err(self.wrong(sign)),
        }
    }

    /// Whether the next token is this word, which is then gone.
    fn takes_word(&mut self, wanted: &str) -> Result<bool> {
        let before = self.at;
        match self.next()? {
            Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted) => Ok(true),
            _ => {
                self.at = before;
                Ok(false)
            }
        }
    }

    fn next(&mut self) -> Result<Option<Token>> {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            return Ok(None);
        };
        let signs = ["!=", "<=", ">=", "=", "<", ">", "(", ")", ","];
        if let Some(sign) = signs.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(Some(Token::Sign(sign)));
        }
        if let '"' | '\'' | '`' = first {
            let text = self.quoted(first)?;
            return Ok(Some(match first {
                // A quote or control sign would not be a path of SQLite's.
                '`' if text.contains(['"', '\\']) || text.contains(char::is_control) => {
                    return Err(self.wrong("a field without quotes and backslashes"));
                }
                '`' => Token::Field(text),
                _ => Token::Value(Value::String(text)),
            }));
        }
        let is_word = |c: char| c.is_alphanumeric() || "_-./+".contains(c);
        let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        if word.is_empty() {
            return Err(self.wrong("another sign"));
        }
        self.at += word.len();
        if first.is_ascii_digit() || "-+.".contains(first) {
            let number = word.trim_start_matches('+');
            let whole = number.parse::<i64>().ok().map(Value::from);
            let number = whole.or_else(|| number.parse::<f64>().ok().map(Value::from));
            return match number.filter(Value::is_number) {
                Some(number) => Ok(Some(Token::Value(number))),
                None => Err(self.wrong("a number")),
            };
        }
        Ok(Some(Token::Word(word.to_owned())))
    }

    /// A text up to its closing quote; a quote within is there twice.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut rest = self.text[self.at + 1..].char_indices().peekable();
        while let Some((place, c)) = rest.next() {
            if c != quote {
                text.push(c);
            } else if rest.next_if(|(_, next)| *next == quote).is_some() {
                text.push(quote);
            } else {
                self.at += 1 + place + 1;
                return Ok(text);
            }
        }
        Err(self.wrong("a closing quote after it, not"))
    }
}
