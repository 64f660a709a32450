//! What has changed and why, in sentences.
//!
//! Owns the words. Each paragraph is one change: a line with the moment, then what is on record of it, then its cause.

use std::time::Duration;

use vlot::election::{Cause, LeftOffice, Loss, Poll, TransferCause, Unfit, VoteRefused};
use vlot::{GroupId, NodeId};

use super::chronicle::{Aligned, Chronicle, Moment};
use super::story::{Before, Campaign, Change, End, Reason, Vote};

/// All of it.
pub(super) fn tell(chronicle: &Chronicle, stories: &[(GroupId, Vec<Change>)]) -> String {
    let mut text = preface(chronicle, stories);
    for (group, changes) in stories {
        if changes.is_empty() {
            text.push_str(&format!("\nGroup {group}: no leader is on record.\n"));
        }
        for change in changes {
            text.push('\n');
            paragraph(&mut text, chronicle, *group, change);
        }
    }
    text
}

/// What is on record, what is not, and how clocks were aligned.
fn preface(chronicle: &Chronicle, stories: &[(GroupId, Vec<Change>)]) -> String {
    let mut text = String::from("On record (times are UTC):\n");
    for (node, record) in &chronicle.nodes {
        for boot in &record.boots {
            let line = format!("  {}: {} to {}", chronicle.name(*node), boot.from.utc(), clock(boot.upto));
            text.push_str(&format!("{line}, {}\n", counted(boot.events.len(), "event")));
        }
        if let Aligned::ByVotes(within) = record.aligned {
            let way = if record.ahead > 0 { "ahead of" } else { "behind" };
            let by = seconds(Duration::from_micros(record.ahead.unsigned_abs()));
            let within = match within {
                Some(micros) => format!("to within {}", seconds(Duration::from_micros(micros.unsigned_abs()))),
                None => "at least so much".to_owned(),
            };
            text.push_str(&format!(
                "    its clock is {by} {way} the others', as votes show, {within}; it is set right here\n"
            ));
        }
    }
    let mut missing: Vec<NodeId> = stories.iter().flat_map(|(group, _)| chronicle.nodes_of(*group)).collect();
    missing.sort_unstable();
    missing.dedup();
    for node in missing.into_iter().filter(|node| !chronicle.nodes.contains_key(node)) {
        let at = chronicle.address(node).map_or_else(String::new, |address| format!(" at {address}"));
        text.push_str(&format!("  {}{at}: nothing; a record of it would tell more\n", chronicle.name(node)));
    }
    text
}

fn paragraph(text: &mut String, chronicle: &Chronicle, group: GroupId, change: &Change) {
    let name = |node: NodeId| chronicle.name(node);
    let winner = name(change.leader);
    let after = match &change.before {
        Some(before) if before.leader == change.leader => format!(", as in term {}", before.term),
        Some(before) => format!(", after {} in term {}", name(before.leader), before.term),
        None => String::new(),
    };
    text.push_str(&format!("{} group {group}: {winner} leads term {}{after}.\n", change.at.utc(), change.term));
    let before = change.before.as_ref();
    let lines = before.map(|before| end(chronicle, before, change)).into_iter();
    let lines = lines.chain(std::iter::once(campaign(chronicle, change)));
    let lines = lines.chain(votes(chronicle, change)).chain(rivals(chronicle, change));
    let lines = lines.chain(without_leader(chronicle, change)).chain([format!("Cause: {}", cause(chronicle, change))]);
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
}

/// What became of the leader before, by its own record.
fn end(chronicle: &Chronicle, before: &Before, change: &Change) -> String {
    let leader = chronicle.name(before.leader);
    let led = format!("{leader} led term {} from {}", before.term, clock(before.since));
    match &before.end {
        End::NotOnRecord { upto, restarted } => {
            let record = match upto {
                Some(upto) => format!("its record ends at {}", clock(*upto)),
                None => "it has no record of that time".to_owned(),
            };
            let restarted =
                restarted.map_or_else(String::new, |at| format!("; a new process of it began at {}", clock(at)));
            format!("{led}; {record}{restarted}.")
        }
        End::LaterTerm { at, term, from } => {
            let from = from.map_or_else(String::new, |from| format!(" from {}", chronicle.name(from)));
            let when = if *at > change.at { "later, " } else { "" };
            format!("{led} until it heard of term {term}{from}, {when}at {}.", clock(*at))
        }
        End::Left { at, why } => format!("{led} and left office at {}: {}.", clock(*at), left_office(*why)),
        End::Stopped { at, why } => format!("{led} until its process ended at {}: {why}.", clock(*at)),
        End::Open { upto } => format!("{led}, and still did when its record ends, at {}.", clock(*upto)),
    }
}

/// How the new leader came to ask.
fn campaign(chronicle: &Chronicle, change: &Change) -> String {
    let winner = chronicle.name(change.leader);
    let Some(Campaign { at, cause, silence, lost }) = change.campaign else {
        return format!("Why {winner} asked for votes is not on record.");
    };
    let leader = change.before.as_ref().map_or_else(|| "a leader".to_owned(), |before| chronicle.name(before.leader));
    let asked = clock(at);
    match (cause, lost) {
        (Cause::Transfer, _) => format!("{winner} campaigned at {asked} because {leader} told it to."),
        (Cause::LostLeader, Some((when, Loss::Connection))) => format!(
            "{winner} lost its connection to {leader} at {} and did not wait for an election timeout: it asked at {asked}.",
            clock(when)
        ),
        (Cause::LostLeader, Some((when, Loss::Silence))) => format!(
            "{winner} heard nothing from the node of {leader} for an election timeout, as the group slept, until {}, and asked \
             at {asked}.",
            clock(when)
        ),
        (Cause::LostLeader, None) => format!("{winner} had lost {leader} and asked at {asked}."),
        (Cause::Silence, _) if change.before.is_none() => {
            format!("{winner} had heard no leader for {} when it asked, at {asked}.", seconds(silence))
        }
        (Cause::Silence, _) => {
            format!("{winner} had heard nothing from {leader} for {} when it asked, at {asked}.", seconds(silence))
        }
    }
}

fn votes(chronicle: &Chronicle, change: &Change) -> Option<String> {
    let of = |poll| change.votes.iter().filter(move |vote| vote.poll == poll && vote.voter != change.leader);
    let pre_votes: Vec<String> = of(Poll::PreVote).map(|vote| said(chronicle, vote, "agreed")).collect();
    let votes: Vec<String> = of(Poll::Vote).map(|vote| said(chronicle, vote, "voted for it")).collect();
    let mut sentence = String::new();
    if !pre_votes.is_empty() {
        sentence.push_str(&format!("Asked whether it should campaign: {}. ", pre_votes.join("; ")));
    }
    if !votes.is_empty() {
        sentence.push_str(&format!("Asked for a vote in term {}: {}.", change.term, votes.join("; ")));
    }
    Some(sentence.trim_end().to_owned()).filter(|sentence| !sentence.is_empty())
}

fn said(chronicle: &Chronicle, vote: &Vote, granted: &str) -> String {
    let voter = chronicle.name(vote.voter);
    if vote.granted {
        return format!("{voter} {granted}");
    }
    let why = match vote.refused {
        None => return format!("{voter} refused"),
        Some(VoteRefused::StaleTerm { term }) => format!("it knew of term {term}"),
        Some(VoteRefused::LeaderInOffice { leader: None }) => "a leader was in office for it".to_owned(),
        Some(VoteRefused::LeaderInOffice { leader: Some(leader) }) => {
            format!("{} was in office for it", chronicle.name(leader))
        }
        Some(VoteRefused::Voted { candidate }) => format!("it had voted for {}", chronicle.name(candidate)),
        Some(VoteRefused::LaterLog { own, theirs }) => format!("its log ends with {own}, later than {theirs}"),
        Some(VoteRefused::Leads) => "it led the term".to_owned(),
    };
    format!("{voter} refused, since {why}")
}

fn rivals(chronicle: &Chronicle, change: &Change) -> Option<String> {
    let rival = |(node, term): &(NodeId, vlot::Term)| format!("{} in term {term}", chronicle.name(*node));
    let rivals: Vec<String> = change.rivals.iter().map(rival).collect();
    (!rivals.is_empty()).then(|| format!("Also asked for votes and not elected: {}.", rivals.join(", ")))
}

/// For how long there was no leader, as the new one saw it.
fn without_leader(chronicle: &Chronicle, change: &Change) -> Option<String> {
    let Campaign { at, silence, cause, .. } = change.campaign.filter(|_| change.before.is_some())?;
    let from = if cause == Cause::Transfer { at } else { at.before(silence) };
    let winner = chronicle.name(change.leader);
    Some(format!(
        "From the last word of the old leader to the new one it took {winner} {}.",
        seconds(change.at.since(from))
    ))
}

fn cause(chronicle: &Chronicle, change: &Change) -> String {
    let winner = chronicle.name(change.leader);
    let Some(before) = &change.before else {
        return format!("no leader before {winner} is on record: it is the first, or earlier records are gone.");
    };
    let leader = chronicle.name(before.leader);
    match &change.cause {
        Reason::First => "no leader before it is on record.".to_owned(),
        Reason::Transfer(Some(TransferCause::Asked)) => {
            format!("the leadership was transferred from {leader} to {winner}, as {leader} was asked to.")
        }
        Reason::Transfer(Some(TransferCause::Preferred)) => {
            format!("{leader} transferred the leadership to {winner}, which has a greater priority and kept up.")
        }
        Reason::Transfer(Some(TransferCause::Leaves)) => {
            format!("{leader} was to leave the voters, and transferred the leadership to {winner} before.")
        }
        Reason::Transfer(Some(TransferCause::Unfit(unfit))) => {
            format!("{}, so {leader} transferred the leadership to {winner}.", what_is_unfit(&leader, *unfit))
        }
        Reason::Transfer(None) => {
            format!("{leader} told {winner} to campaign; why is in the record of {leader}, which is not there.")
        }
        Reason::Left(LeftOffice::Unfit(unfit)) => {
            format!("{}, and no other node took over in time, so {leader} left office.", what_is_unfit(&leader, *unfit))
        }
        Reason::Left(LeftOffice::NoQuorum) => format!("{leader} heard no quorum, and left office."),
        Reason::Stopped(why) => format!("the process of {leader} ended: {why}."),
        Reason::Died { restarted } => format!(
            "the process of {leader} ended without a word (killed, crashed, or its machine went down); another began at {}.",
            clock(*restarted)
        ),
        Reason::LeaderPaused { from, upto } => format!(
            "the process of {leader} did nothing for {}, from {} to {}: it was paused, or its machine was overloaded.",
            seconds(upto.since(*from)),
            clock(*from),
            clock(*upto)
        ),
        Reason::WinnerPaused { from, upto } => format!(
            "the process of {winner} itself did nothing for {}, from {} to {} (paused, or its machine overloaded), and took that \
             for the silence of {leader}.",
            seconds(upto.since(*from)),
            clock(*from),
            clock(*upto)
        ),
        Reason::CutOff { lost } => {
            let lost: Vec<String> = lost.iter().map(|node| chronicle.name(*node)).collect();
            let lost = lost.join(" and ");
            format!(
                "the network: {leader} went on, and its connections to {lost} broke; look at what lies between {leader} and {lost}."
            )
        }
        Reason::MessagesLost => format!(
            "the network: {leader} went on and connections stood, but what it sent did not come to {winner}; look for lost or \
             delayed packets between the two."
        ),
        Reason::ConnectionLost => format!(
            "the connection to {leader} broke: its process or machine went down, or the network in between did. A record of \
             {leader} would tell."
        ),
        Reason::FellSilent => format!(
            "{leader} fell silent while its connection stood: it was paused or overloaded, or its messages were lost. A record of \
             {leader} would tell."
        ),
        Reason::Unknown => "what is on record does not tell.".to_owned(),
    }
}

fn what_is_unfit(leader: &str, unfit: Unfit) -> String {
    match unfit {
        Unfit::Unreadable => format!("entries in the log of {leader} could not be read"),
        Unfit::DiskStalled => {
            format!("the disk of {leader} had stalled: a write waited for longer than an election timeout")
        }
        Unfit::DiskFull => format!("the disk of {leader} was full"),
        Unfit::StateMachine => format!("the state machine of {leader} had stopped, or lagged too far behind"),
    }
}

fn left_office(why: LeftOffice) -> String {
    match why {
        LeftOffice::NoQuorum => "no quorum had answered it for an election timeout".to_owned(),
        LeftOffice::Unfit(unfit) => format!("{}, and no other node took over", what_is_unfit("it", unfit)),
    }
}

/// The time of the day.
fn clock(at: Moment) -> String {
    format!("{:#}", at.utc())
}

/// Short times to the millisecond, and below it to the microsecond.
fn seconds(time: Duration) -> String {
    let digits = if time < Duration::from_millis(1) { 6 } else { 3 };
    format!("{:.digits$} s", time.as_secs_f64())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
