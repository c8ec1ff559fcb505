//! Prints the plan of each file named: for a look at many images while deriving.
fn main() {
    for path in std::env::args().skip(1) {
        println!("== {path}");
        let bytes = std::fs::read(&path).expect("readable");
        let start = std::time::Instant::now();
        match tlscope_image::analyze(&bytes) {
            Ok(plan) => {
                println!(
                    "{} {:?} {} by {}",
                    plan.family, plan.version, plan.arch, plan.recognised_by
                );
                for p in &plan.probes {
                    let name = p.symbol.as_deref().unwrap_or("-");
                    println!(
                        "  {:?} {name} {} @{} {}",
                        p.role, p.address, p.offset, p.evidence
                    );
                }
                for c in &plan.covered {
                    println!("  covered {} by {}: {}", c.symbol, c.by, c.evidence);
                }
                println!("  layout {:?}", plan.layout);
                for m in &plan.missing {
                    println!("  MISSING {}: {}", m.what, m.why);
                }
            }
            Err(error) => println!("{error}"),
        }
        println!("  took {:?}", start.elapsed());
    }
}
