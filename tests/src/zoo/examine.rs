//! One target from download to result.

use std::env::consts::ARCH;
use std::path::Path;

use crate::Scene;
use crate::zoo::dwarf::Dwarf;
use crate::zoo::fetch::{Specimen, fetch};
use crate::zoo::go::{self, Facts, Toolchain};
use crate::zoo::live::{self, Live};
use crate::zoo::nss;
use crate::zoo::offline::{self, Truth};
use crate::zoo::outcome::{Outcome, caught};
use crate::zoo::plan::Plan;
use crate::zoo::programs;
use crate::zoo::targets::{NSS, Run, Target, Tls, named};

/// A line of the table in docs/libraries.md.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub holds: String,
    pub found: Option<Plan>,
    pub truth: Compared,
    pub plan: Outcome,
    pub text: Outcome,
    pub keylog: Outcome,
}

/// What a plan was compared with, besides what it says itself.
#[derive(Debug, Default)]
pub struct Compared {
    /// As `.symtab` and the twin.
    pub with: Vec<&'static str>,
    /// The functions and fields that DWARF names.
    pub dwarf: Option<String>,
    /// Its functions begin as those of aarch64 with protected branches do.
    pub protected: bool,
}

impl Row {
    pub fn failed(&self) -> bool {
        self.failures().next().is_some()
    }

    /// What failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("plan", &self.plan),
            ("text", &self.text),
            ("keylog", &self.keylog),
        ];
        all.into_iter().filter_map(|(what, outcome)| match outcome {
            Outcome::No(why) => Some((what, why.as_str())),
            Outcome::Yes | Outcome::Not(_) => None,
        })
    }
}

/// Fetches a target, derives its plan, runs it, compares.
pub fn examine(target: &Target) -> Row {
    let mut row = Row {
        name: target.name.into(),
        holds: target.described(),
        found: None,
        truth: Compared::default(),
        plan: Outcome::Yes,
        text: Outcome::Not("not run"),
        keylog: Outcome::Not("not run"),
    };
    let scene = Scene::new(target.name);
    let specimen = match caught(|| fetch(target)) {
        Ok(specimen) => specimen,
        Err(why) => {
            row.plan = Outcome::No(format!("could not be fetched: {why}"));
            return row;
        }
    };
    if let Run::GoToolchain { arch, facts } = target.run {
        let toolchain = Toolchain::at(&specimen.image);
        examine_toolchain(&scene, &toolchain, arch, facts, &mut row);
        return row;
    }
    let plan = match caught(|| Plan::of(&specimen.image)) {
        Ok(plan) => plan,
        Err(why) => {
            row.plan = Outcome::No(why);
            return row;
        }
    };
    row.plan = check_plan(&scene, target, &specimen, &plan, &mut row.truth);
    row.found = Some(plan);
    if let Some(live) = run(&scene, target.run, &specimen) {
        (row.text, row.keylog) = (live.text, live.keylog);
    }
    row
}

fn check_plan(
    scene: &Scene,
    target: &Target,
    specimen: &Specimen,
    plan: &Plan,
    compared: &mut Compared,
) -> Outcome {
    let whole = Outcome::of(|| {
        plan.assert_whole(target.family);
        plan.assert_shown(&specimen.image);
        if target.family == NSS {
            nss::assert_token(&specimen.image);
        }
    });
    let truth = Outcome::of(|| {
        if let Some(stripped) = check_truth(scene, specimen, plan, compared) {
            stripped.assert_whole(target.family);
        }
    });
    let known = Outcome::of(|| match target.run {
        Run::Offline { twin } => {
            let twin = named(twin).expect("a twin in the table");
            offline::assert_twins(plan, &Plan::of(&fetch(twin).image));
            compared.with.push("its twin");
        }
        Run::GoProgram(facts) => go::check_program(plan, facts),
        Run::Peer(Tls::Only13) => {
            let says = plan.missing.iter().any(|m| m.what == "secrets of TLS 1.2");
            assert!(says, "what it lacks: {:?}", plan.missing);
        }
        _ => {}
    });
    whole.and(truth).and(known)
}

/// Builds and checks in every way; the row shows the build that has the least to go by.
pub fn examine_toolchain(
    scene: &Scene,
    toolchain: &Toolchain,
    arch: &str,
    facts: Facts,
    row: &mut Row,
) {
    let builds = match caught(|| toolchain.check_builds(scene, arch, &go::WAYS, facts)) {
        Ok(builds) => builds,
        Err(why) => {
            row.plan = Outcome::No(why);
            return;
        }
    };
    row.found = builds.last().map(|(_, image)| Plan::of(image));
    if row.found.as_ref().is_some_and(|plan| plan.arch == ARCH) {
        let live = caught(|| go::run_builds(scene, &builds));
        let live = live.unwrap_or_else(Live::failed);
        (row.text, row.keylog) = (live.text, live.keylog);
    }
}

/// Returns the plan of the image without its symbol table, where it has one.
fn check_truth(
    scene: &Scene,
    specimen: &Specimen,
    plan: &Plan,
    compared: &mut Compared,
) -> Option<Plan> {
    let truth = Truth::of(&specimen.image);
    truth.assert_agrees(plan);
    compared.protected = offline::is_protected(&specimen.image, plan);
    compared.with.extend(truth.tables());
    let is_go = plan.layout.go.is_some();
    let dwarf = Dwarf::of(&specimen.image).filter(|dwarf| !is_go && dwarf.knows(plan));
    if let Some(dwarf) = dwarf {
        compared.dwarf = Some(dwarf.assert_agrees(plan));
        compared.with.push("DWARF");
    }
    truth
        .has_symtab()
        .then(|| offline::assert_stripped_agrees(scene, &specimen.image, plan))
}

fn run(scene: &Scene, run: Run, specimen: &Specimen) -> Option<Live> {
    let live = match run {
        Run::Peer(tls) => caught(|| live::with_own_keylog(scene, specimen, tls, false)),
        Run::PeerInRoot(tls) => caught(|| live::with_own_keylog(scene, specimen, tls, true)),
        Run::PeerAgainstSystem { client, server } => {
            caught(|| live::against_the_system(scene, specimen, client, server))
        }
        Run::Program(program, tls) => caught(|| programs::run(scene, specimen, program, tls)),
        Run::Nss(tls) => caught(|| nss::run(scene, specimen, tls)),
        Run::Look | Run::Offline { .. } | Run::GoToolchain { .. } | Run::GoProgram(_) => {
            return None;
        }
    };
    Some(live.unwrap_or_else(Live::failed))
}

/// Any file: its plan, and a run where it can be driven.
pub fn examine_file(image: &Path) -> Row {
    let mut row = Row {
        name: image.display().to_string(),
        holds: String::new(),
        found: None,
        truth: Compared::default(),
        plan: Outcome::Yes,
        text: Outcome::Not("not run"),
        keylog: Outcome::Not("not run"),
    };
    let plan = match caught(|| Plan::of(image)) {
        Ok(plan) => plan,
        Err(why) => {
            row.plan = Outcome::No(why);
            return row;
        }
    };
    let scene = Scene::new("zoo-file");
    let directory = programs::guess(image).map_or_else(|| image.parent(), |(_, place)| Some(place));
    let specimen = Specimen {
        directory: directory.unwrap_or(Path::new("/")).to_owned(),
        image: image.to_owned(),
    };
    let whole = Outcome::of(|| plan.assert_whole(&plan.family));
    // What a stripped copy lacks is no fault of this file.
    let truth = || drop(check_truth(&scene, &specimen, &plan, &mut row.truth));
    row.plan = whole.and(Outcome::of(truth));
    let way = way_to_run(&scene, &specimen, &plan);
    row.found = Some(plan);
    if let Some(live) = way.and_then(|way| run(&scene, way, &specimen)) {
        (row.text, row.keylog) = (live.text, live.keylog);
    }
    row
}

/// A library that exports what the peer needs is loaded by it; programs go by their name.
fn way_to_run(scene: &Scene, specimen: &Specimen, plan: &Plan) -> Option<Run> {
    if plan.arch != ARCH {
        return None;
    }
    if let Some((program, _)) = programs::guess(&specimen.image) {
        return Some(Run::Program(program, Tls::Both));
    }
    if plan.family == NSS {
        return Some(Run::Nss(Tls::Both));
    }
    let truth = Truth::of(&specimen.image);
    if truth.has("gnutls_init") {
        return Some(Run::Peer(Tls::Both));
    }
    if !(truth.has("SSL_CTX_new") && truth.has("SSL_get1_session")) {
        return None;
    }
    // LibreSSL's setter of the callback does nothing.
    let logs = truth.has("SSL_CTX_set_keylog_callback") && plan.family != "libressl";
    if logs {
        return Some(Run::Peer(Tls::Both));
    }
    let versions = |role| {
        let both = plan.probe("expand_label").is_some()
            && live::speaks_tls13(scene, &specimen.image, role);
        if both { Tls::Both } else { Tls::Only12 }
    };
    Some(Run::PeerAgainstSystem {
        client: versions("client"),
        server: versions("server"),
    })
}
