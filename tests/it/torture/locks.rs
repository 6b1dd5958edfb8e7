//! Eight processes that want one lock, while some of them are killed with -9 and some are stopped for
//! longer than their grants hold. What they hold the lock for refuses whoever has been overtaken, by the
//! fence, and keeps a witness of everything. And twenty that want one of three slots.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::site::Site;
use super::size;

/// Under the file's lock the resource compares the fence with the highest it has seen.
const ROOM: &str = r#"
exec 9> guard
tell() { echo "$1 $GOFLOW_FENCE" >> room; }
enter() {
    flock 9
    top=$(cat top 2> /dev/null || echo 0)
    if [ "$GOFLOW_FENCE" -lt "$top" ]; then tell late; exit 9; fi
    echo "$GOFLOW_FENCE" > top
    tell "$1"
    flock -u 9
}
enter in
sleep 0.02
enter out
"#;

/// Who is inside, by the order of what they write.
const SLOTS: &str = r#"
exec 9> guard
tell() { flock 9; echo "$1 $GOFLOW_FENCE" >> room; flock -u 9; }
tell in
sleep 0.05
tell out
"#;

/// What the witness tells: a word and a fence a line.
fn witness(site: &Site) -> Vec<(String, u64)> {
    let text = fs::read_to_string(site.env.path().join("room")).unwrap_or_default();
    let line = |line: &str| {
        let (word, fence) = line.split_once(' ')?;
        Some((word.to_owned(), fence.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

type Seat = Mutex<Option<Child>>;

/// Takes the lock again and again, in a process each time.
fn cycle(site: &Site, line: &str, seat: &Seat, over: &dyn Fn() -> bool) {
    while !over() {
        let child = site.env.command(line.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        *seat.lock().expect("lock") = Some(child.expect("goflow starts"));
        loop {
            let mut seat = seat.lock().expect("lock");
            if seat.as_mut().is_some_and(|child| child.try_wait().expect("a status").is_some()) {
                *seat = None;
                break;
            }
            drop(seat);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    // It has not been waited for: the pid is its own.
    let _ = kill_process(pid, signal);
}

fn one_at_a_time(site: Site) {
    site.env.file("room.sh", ROOM);
    let wanted = size(120, 5_000);
    let seats: Vec<Seat> = (0..8).map(|_| Seat::default()).collect();
    let (kills, stops) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let limit = Duration::from_secs(size(240, 7_200) as u64);
    std::thread::scope(|scope| {
        for seat in &seats {
            let (site, stop) = (&site, &stop);
            let line = "lock run room --ttl 1s --wait -- sh ./room.sh";
            scope.spawn(move || cycle(site, line, seat, &|| stop.load(Ordering::SeqCst)));
        }
        let mut turn = 0;
        // A quick machine is through the cycles before enough has happened to them.
        let enough = || {
            let cycles = witness(&site).iter().filter(|(word, _)| word == "out").count();
            cycles >= wanted && kills.load(Ordering::SeqCst) >= 5 && stops.load(Ordering::SeqCst) >= 3
        };
        while !enough() && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(250));
            turn += 1;
            let seat = &seats[turn * 5 % seats.len()];
            if turn % 2 == 0 {
                if let Some(child) = &*seat.lock().expect("lock") {
                    signal(child, Signal::KILL);
                    kills.fetch_add(1, Ordering::SeqCst);
                }
            } else if turn % 4 == 1 {
                let Some(held) = seat.lock().expect("lock").as_ref().map(|child| child.id()) else { continue };
                // Longer than its grant holds; meanwhile the others go on.
                let pid = i32::try_from(held).ok().and_then(Pid::from_raw).expect("a pid");
                let mut guard = seat.lock().expect("lock");
                if guard
                    .as_mut()
                    .is_some_and(|child| child.id() == held && child.try_wait().is_ok_and(|end| end.is_none()))
                {
                    let _ = kill_process(pid, Signal::STOP);
                    std::thread::sleep(Duration::from_millis(1_500));
                    let _ = kill_process(pid, Signal::CONT);
                    stops.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    let told = witness(&site);
    let done = told.iter().filter(|(word, _)| word == "out").count();
    assert!(done >= wanted, "{done} cycles in {:?}", begun.elapsed());
    let (kills, stops) = (kills.into_inner(), stops.into_inner());
    assert!(kills >= 5 && stops >= 3, "{kills} kills and {stops} stops prove nothing");

    let came: Vec<u64> = told.iter().filter(|(word, _)| word == "in").map(|(_, fence)| *fence).collect();
    assert!(came.windows(2).all(|pair| pair[0] < pair[1]), "the fence does not rise strictly: {came:?}");
    // Whoever is in is alone: another one comes in only when this one has gone, or was killed or overtaken,
    // and then is not let out.
    let mut inside: Option<u64> = None;
    let mut overtaken = 0;
    for (word, fence) in &told {
        match word.as_str() {
            "in" => {
                overtaken += usize::from(inside.is_some());
                inside = Some(*fence);
            }
            "out" => assert_eq!(inside.take(), Some(*fence), "{fence} went out and was not in"),
            _ => assert!(inside.is_none_or(|inside| inside > *fence), "{fence} was late and nobody had overtaken it"),
        }
    }
    assert!(overtaken <= kills + stops, "{overtaken} were overtaken by {kills} kills and {stops} stops");
    site.env.run("lock run room --ttl 1s --wait 30s -- sh ./room.sh").ok();
    site.verify();
}

fn never_a_fourth(site: Site) {
    site.env.file("slots.sh", SLOTS);
    let wanted = size(60, 1_000);
    let begun = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            let (site, begun) = (&site, begun.clone());
            scope.spawn(move || {
                // Longer than a disk stands still: then nothing can be extended, and what is lost is lost by right.
                let line = "semaphore run api --limit 3 --ttl 10m --wait -- sh ./slots.sh";
                while begun.fetch_add(1, Ordering::SeqCst) < wanted {
                    site.env.run(line).ok();
                }
            });
        }
    });
    let told = witness(&site);
    let (mut inside, mut most) = (BTreeSet::new(), 0);
    for (word, fence) in &told {
        match word.as_str() {
            "in" => assert!(inside.insert(*fence), "fence {fence} came twice"),
            _ => assert!(inside.remove(fence)),
        }
        most = most.max(inside.len());
        assert!(inside.len() <= 3, "{inside:?} are in at once");
    }
    assert_eq!(told.len(), 2 * wanted);
    assert!(most > 1, "they never met");
    let fences: BTreeSet<u64> = told.iter().map(|(_, fence)| *fence).collect();
    assert_eq!(fences.len(), wanted);
    site.verify();
}

#[test]
fn sqlite_has_one_holder() {
    one_at_a_time(Site::sqlite());
}

#[test]
fn redis_has_one_holder() {
    one_at_a_time(Site::redis());
}

#[test]
fn postgres_has_one_holder() {
    one_at_a_time(Site::postgres());
}

#[test]
fn sqlite_has_three_holders_at_most() {
    never_a_fourth(Site::sqlite());
}

#[test]
fn redis_has_three_holders_at_most() {
    never_a_fourth(Site::redis());
}

#[test]
fn postgres_has_three_holders_at_most() {
    never_a_fourth(Site::postgres());
}
