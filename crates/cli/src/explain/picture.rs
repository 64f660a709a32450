//! The changes of leader as a picture: a panel for each, with a lane for each node.
//!
//! Owns how it is drawn, as SVG that needs nothing else. Must not know why anything happened.

use std::time::Duration;

use vlot::election::{Loss, Poll};
use vlot::recorder::Kind;
use vlot::{GroupId, NodeId, RoleName, Term};

use super::chronicle::{Boot, Chronicle, Moment, NodeRecord, Noted};
use super::story::{Campaign, Change};
use crate::svg::{Escaped, Svg};

/// Pixels.
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 50.0;
const LANE: f64 = 56.0;
const BAR: f64 = 22.0;
const HEAD: f64 = 54.0;
const FOOT: f64 = 34.0;
/// How much is shown before the trouble begins, and after the new leader.
const AROUND: Duration = Duration::from_secs(2);
/// Panels; the latest changes count.
const PANELS_MAX: usize = 24;

/// Draws what has changed.
pub(super) fn draw(chronicle: &Chronicle, stories: &[(GroupId, Vec<Change>)]) -> String {
    let panels = panels(chronicle, stories);
    let height = |panel: &Panel<'_>| HEAD + FOOT + LANE * panel.nodes.len() as f64;
    let whole = panels.iter().map(height).sum::<f64>() + 60.0;
    let mut svg = Svg(String::new());
    svg.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{whole}\" viewBox=\"0 0 {WIDTH} {whole}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    ));
    svg.line(format_args!("<style>{STYLE}</style>"));
    svg.line(format_args!("<rect width=\"{WIDTH}\" height=\"{whole}\" fill=\"#ffffff\"/>"));
    legend(&mut svg);
    let mut top = 40.0;
    if panels.is_empty() {
        svg.text((LEFT, top + 10.0), "name", "no change of leader is on record");
    }
    for panel in &panels {
        panel.draw(&mut svg, top);
        top += height(panel);
    }
    svg.line(format_args!("</svg>"));
    svg.0
}

const STYLE: &str = "\
.leader{fill:#2e9e5b}.said{fill:#a9d8bd}.follower{fill:#cfd8e3}.pre-candidate{fill:#f3c565}.candidate{fill:#ec8b2f}.unknown{fill:#f4f4f4;stroke:#c9c9c9;\
stroke-dasharray:3 3}.paused{fill:#7d4fb3;opacity:.75}.granted{stroke:#2e9e5b}.refused{stroke:#c0392b}.asked{stroke:#8a8a8a;\
stroke-dasharray:4 2}.name{font-weight:bold}.title{font-size:14px;font-weight:bold}.tick{fill:#666}.mark{fill:#c0392b;font-weight:bold}\
.term{fill:#ffffff}";

fn legend(svg: &mut Svg) {
    let words = [
        ("leader", "leads"),
        ("said", "leads, as others say"),
        ("follower", "follows"),
        ("pre-candidate", "asks whether to campaign"),
        ("candidate", "campaigns"),
        ("paused", "did nothing"),
        ("unknown", "not on record"),
    ];
    let mut left = LEFT;
    for (class, word) in words {
        svg.line(format_args!("<rect class=\"{class}\" x=\"{left}\" y=\"10\" width=\"16\" height=\"12\"/>"));
        svg.text((left + 22.0, 20.0), "tick", word);
        left += 40.0 + 7.0 * word.len() as f64;
    }
    svg.text((left, 20.0), "mark", "✕");
    svg.text((left + 14.0, 20.0), "tick", "lost a connection");
}

/// Changes that lie close together, and the time around them.
struct Panel<'c> {
    chronicle: &'c Chronicle,
    group: GroupId,
    title: String,
    from: Moment,
    upto: Moment,
    nodes: Vec<NodeId>,
    /// Offices of leaders that have no record of them, as others say: which, in which term, from when on and until when.
    said: Vec<(NodeId, Term, Moment, Moment)>,
}

fn panels<'c>(chronicle: &'c Chronicle, stories: &[(GroupId, Vec<Change>)]) -> Vec<Panel<'c>> {
    let mut panels: Vec<Panel<'c>> = Vec::new();
    for (group, changes) in stories {
        for change in changes {
            let winner = chronicle.name(change.leader);
            let title = format!("{winner} leads term {}", change.term);
            let began =
                change.campaign.map_or(change.at, |Campaign { at, silence, .. }| at.before(silence.min(5 * AROUND)));
            let (from, upto) = (began.before(AROUND), change.at.after(AROUND));
            match panels.last_mut().filter(|panel| panel.group == *group && from <= panel.upto) {
                Some(panel) => {
                    panel.upto = upto;
                    panel.title = format!("{}, then {title}", panel.title);
                }
                None => {
                    let title = format!("{} group {group}: {title}", change.at.utc());
                    let mut nodes: Vec<NodeId> = chronicle.nodes_of(*group).into_iter().collect();
                    nodes.sort_by_key(|node| chronicle.name(*node));
                    let said = said(chronicle, changes);
                    panels.push(Panel { chronicle, group: *group, title, from, upto, nodes, said });
                }
            }
        }
    }
    panels.split_off(panels.len().saturating_sub(PANELS_MAX))
}

/// The offices of leaders that have no record of them: until the next leader lost or last heard them.
fn said(chronicle: &Chronicle, changes: &[Change]) -> Vec<(NodeId, Term, Moment, Moment)> {
    let has_record = |change: &&Change| {
        chronicle.nodes.get(&change.leader).is_some_and(|record| record.boot_at(change.at).is_some())
    };
    let end = |place: usize| {
        let next: Option<&Change> = changes.get(place + 1);
        next.map_or(Moment(i64::MAX), |next| next.campaign.map_or(next.at, |asked| asked.at.before(asked.silence)))
    };
    let said = changes.iter().enumerate().filter(|(_, change)| !has_record(change));
    said.map(|(place, change)| (change.leader, change.term, change.at, end(place))).collect()
}

impl Panel<'_> {
    fn draw(&self, svg: &mut Svg, top: f64) {
        svg.text((20.0, top + 18.0), "title", &self.title);
        let lanes = top + HEAD;
        let bottom = lanes + LANE * self.nodes.len() as f64;
        self.ticks(svg, lanes - 8.0, bottom);
        for (place, node) in self.nodes.iter().enumerate() {
            let lane = lanes + LANE * place as f64;
            svg.text((20.0, lane + BAR / 2.0 + 4.0), "name", &self.chronicle.name(*node));
            self.bar(svg, (self.from, self.upto), lane, "unknown", "not on record");
            for (_, term, from, upto) in self.said.iter().filter(|(leader, ..)| leader == node) {
                self.bar(svg, (*from, *upto), lane, "said", &format!("leads term {term}, as others say"));
            }
            if let Some(record) = self.chronicle.nodes.get(node) {
                record.boots.iter().for_each(|boot| self.process(svg, lane, *node, boot));
                self.marks(svg, lane, record);
            }
        }
        for (place, node) in self.nodes.iter().enumerate() {
            self.votes(svg, lanes, place, *node);
        }
    }

    /// What a process was, from the first of its events to its last dump.
    fn process(&self, svg: &mut Svg, lane: f64, node: NodeId, boot: &Boot) {
        let mut was: Option<(Moment, &'static str, String)> = None;
        for Noted { at, group, kind } in &boot.events {
            let (class, told) = match kind {
                Kind::Became { term, role, leader } if *group == Some(self.group) => match role {
                    RoleName::Leader => ("leader", format!("leads term {term}")),
                    RoleName::Candidate => ("candidate", format!("campaigns in term {term}")),
                    RoleName::PreCandidate => ("pre-candidate", format!("asks whether to campaign after term {term}")),
                    RoleName::Follower => {
                        let leader =
                            leader.map_or_else(|| "no leader".to_owned(), |leader| self.chronicle.name(leader));
                        ("follower", format!("follows {leader} in term {term}"))
                    }
                },
                Kind::Opened {} if *group == Some(self.group) => ("follower", "follows no leader yet".to_owned()),
                Kind::Stop { .. } => {
                    self.end_bar(svg, lane, node, was.take(), *at);
                    continue;
                }
                _ => continue,
            };
            self.end_bar(svg, lane, node, was.replace((*at, class, told)), *at);
        }
        self.end_bar(svg, lane, node, was, boot.upto);
    }

    fn end_bar(
        &self,
        svg: &mut Svg,
        lane: f64,
        node: NodeId,
        was: Option<(Moment, &'static str, String)>,
        upto: Moment,
    ) {
        if let Some((from, class, told)) = was {
            let name = self.chronicle.name(node);
            self.bar(
                svg,
                (from, upto),
                lane,
                class,
                &format!("{name} {told} from {:#} to {:#}", from.utc(), upto.utc()),
            );
        }
    }

    fn bar(&self, svg: &mut Svg, time: (Moment, Moment), lane: f64, class: &str, told: &str) {
        self.bar_of(svg, time, (lane, BAR), class, told);
    }

    fn bar_of(
        &self,
        svg: &mut Svg,
        (from, upto): (Moment, Moment),
        (top, height): (f64, f64),
        class: &str,
        told: &str,
    ) {
        let (from, upto) = (from.max(self.from), upto.min(self.upto));
        if from >= upto {
            return;
        }
        let (left, width) = (self.x(from), (self.x(upto) - self.x(from)).max(1.0));
        svg.line(format_args!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
            Escaped(told)
        ));
    }

    /// Pauses, lost connections, starts and ends.
    fn marks(&self, svg: &mut Svg, lane: f64, record: &NodeRecord) {
        for Noted { at, kind, .. } in record.events().filter(|event| event.group.is_none_or(|of| of == self.group)) {
            let clock = format!("{:#}", at.utc());
            if let Kind::LateTurn { late } = kind {
                let pause = (at.before(*late), *at);
                let told = format!("did nothing for {:.3} s, until {clock}", late.as_secs_f64());
                self.bar_of(svg, pause, (lane + BAR / 4.0, BAR / 2.0), "paused", &told);
            }
            if *at < self.from || *at > self.upto {
                continue;
            }
            let name = |node: NodeId| self.chronicle.name(node);
            let (mark, told) = match kind {
                Kind::Lost { peer } => ("✕", format!("lost its connection to {}", name(*peer))),
                Kind::LeaderLost { leader, how: Loss::Silence } => ("✕", format!("took {} for gone", name(*leader))),
                Kind::Start { .. } => ("▶", "its process began".to_owned()),
                Kind::Stop { why } => ("■", format!("its process ended: {why}")),
                Kind::DiskStalled {} => ("⚠", "its disk stalled".to_owned()),
                Kind::DiskFull {} => ("⚠", "its disk was full".to_owned()),
                Kind::Fenced { why } => ("⚠", format!("its state machine stopped: {why}")),
                Kind::Transfers { to, .. } => ("→", format!("transfers its leadership to {}", name(*to))),
                Kind::LeftOffice { .. } => ("↓", "leaves office".to_owned()),
                _ => continue,
            };
            let x = self.x(*at);
            svg.line(format_args!(
                "<text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark}<title>{}</title></text>",
                lane + BAR + 12.0,
                Escaped(&format!("{told}, at {clock}"))
            ));
        }
    }

    /// A line from each voter that was asked to the one that asked it.
    fn votes(&self, svg: &mut Svg, lanes: f64, place: usize, voter: NodeId) {
        let Some(record) = self.chronicle.nodes.get(&voter) else { return };
        for Noted { at, kind, .. } in record.of(self.group) {
            let Kind::WasAsked { poll, candidate, term, refused } = kind else { continue };
            let Some(other) = self.nodes.iter().position(|node| node == candidate) else { continue };
            if *at < self.from || *at > self.upto {
                continue;
            }
            let y = |place: usize| lanes + LANE * place as f64 + BAR / 2.0;
            let x = self.x(*at);
            let what = if *poll == Poll::Vote { "a vote" } else { "a pre-vote" };
            let (class, answer) = if refused.is_none() { ("granted", "granted") } else { ("refused", "refused") };
            let dashes = if *poll == Poll::PreVote { " stroke-dasharray=\"4 2\"" } else { "" };
            let (voter, candidate) = (self.chronicle.name(voter), self.chronicle.name(*candidate));
            let told = format!("{voter} {answer} {candidate} {what} for term {term}, at {:#}", at.utc());
            svg.line(format_args!(
                "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke-width=\"1.5\"{dashes}>\
                 <title>{}</title></line>",
                y(place),
                y(other),
                Escaped(&told)
            ));
            svg.line(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\" class=\"{class}\" fill=\"#ffffff\"/>",
                y(place)
            ));
        }
    }

    fn ticks(&self, svg: &mut Svg, top: f64, bottom: f64) {
        const TICKS: u32 = 8;
        let whole = self.upto.since(self.from);
        for tick in 0..=TICKS {
            let at = self.from.after(whole * tick / TICKS);
            let x = self.x(at);
            svg.line(format_args!(
                "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#e6e6e6\"/>"
            ));
            svg.line(format_args!(
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{:#}</text>",
                top - 4.0,
                at.utc()
            ));
        }
    }

    fn x(&self, at: Moment) -> f64 {
        let whole = self.upto.since(self.from).as_secs_f64().max(0.001);
        LEFT + (WIDTH - LEFT - RIGHT) * at.since(self.from).as_secs_f64() / whole
    }
}
