//! What users may do, plainly: whether each key that is meant is granted.

/// A kind of permission, a key, the end of the range.
pub type Grant = (&'static str, &'static str, &'static str);

/// The users, and what each is granted; each grant by a role of its own. Root has its role besides.
pub const USERS: [(&str, &[Grant]); 13] = [
    ("root", &[]),
    ("none", &[]),
    ("read-key", &[("read", "a", "")]),
    ("read-prefix", &[("read", "a", "b")]),
    ("read-from", &[("read", "a", "\0")]),
    ("write-key", &[("write", "a", "")]),
    ("write-prefix", &[("write", "a", "b")]),
    ("write-from", &[("write", "a", "\0")]),
    ("both-key", &[("readwrite", "a", "")]),
    ("both-prefix", &[("readwrite", "a", "b")]),
    ("both-from", &[("readwrite", "a", "\0")]),
    // What two roles grant side by side is one range.
    ("united", &[("read", "a", "ab"), ("readwrite", "ab", "b")]),
    ("all", &[("readwrite", "\0", "\0")]),
];

/// Who has not said who it is, and who says it with a token that is none.
pub const NOBODY: &str = "nobody";
pub const LIAR: &str = "liar";

/// What is read or written.
#[derive(Clone, Copy, Debug)]
pub struct Touched {
    pub reads: bool,
    pub key: &'static str,
    pub range_end: &'static str,
}

/// What a call needs.
#[derive(Clone, Debug)]
pub enum Need {
    Nothing,
    User,
    Root,
    /// To be this user.
    Self_(&'static str),
    /// To have this role, which has the user's name.
    Role(&'static str),
    Keys(Vec<Touched>),
}

/// Keys that stand for all others, as long as ranges begin and end at them.
const KEYS: [&str; 20] = [
    "\0", "a", "a\0", "a/", "a/4a", "a/4b", "a/4b\0", "a0", "ab", "ab\0", "ac", "ac\0", "ax", "ax\0", "b", "b\0", "c",
    "z", "z\0", "zz",
];

fn is_in(key: &str, start: &str, range_end: &str) -> bool {
    match range_end {
        "" => key == start,
        "\0" => start <= key,
        _ => start <= key && key < range_end,
    }
}

fn may(user: &str, touched: &Touched) -> bool {
    let grants = USERS.iter().find(|(name, _)| *name == user).map_or(&[][..], |(_, grants)| *grants);
    let is_granted = |key: &&str| {
        grants.iter().any(|(kind, start, end)| {
            let kind_is_right = *kind == "readwrite" || (*kind == "read") == touched.reads;
            kind_is_right && is_in(key, start, end)
        })
    };
    let meant: Vec<_> = KEYS.iter().filter(|key| is_in(key, touched.key, touched.range_end)).collect();
    assert!(!meant.is_empty(), "{touched:?} has no key that stands for it");
    meant.into_iter().all(is_granted)
}

/// How a call of this user must end if it is refused for who makes it.
pub fn refusal(user: &str, need: &Need) -> Option<&'static str> {
    if let Need::Nothing = need {
        return None;
    }
    match user {
        NOBODY => return Some("3 etcdserver: user name is empty"),
        LIAR => return Some("16 etcdserver: invalid auth token"),
        "root" => return None,
        _ => {}
    }
    let is_permitted = match need {
        Need::Nothing | Need::User => true,
        Need::Root => false,
        Need::Self_(name) | Need::Role(name) => *name == user,
        Need::Keys(touched) => touched.iter().all(|touched| may(user, touched)),
    };
    (!is_permitted).then_some("7 etcdserver: permission denied")
}
