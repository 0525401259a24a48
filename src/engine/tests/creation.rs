//! A new cache, and others who are at its path at that moment.
//!
//! Stopped creators are met in `recovery/creation.rs`; here everybody lives on.

use crate::engine::tests::*;

#[test]
fn many_threads_that_open_a_new_cache_at_once_all_get_it() {
    for _ in 0..30 {
        let scratch = Scratch::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let scratch = &scratch;
                scope.spawn(move || {
                    let cache = scratch.open(&tiny());
                    cache.put(&[thread], &[thread]).unwrap();
                    assert_eq!(cache.get(&[thread]).unwrap().unwrap(), [thread]);
                });
            }
        });
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 4);
        assert_clean(&cache);
    }
}

#[test]
fn what_appears_at_the_path_while_a_cache_is_created_there_is_not_replaced() {
    use crate::sync::failpoint;
    let mut planted = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        failpoint::interrupt(steps, move || {
            if !path.exists() {
                std::fs::write(path, "mine").unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if failpoint::clear() {
            break;
        }
        if std::fs::read(scratch.path()).unwrap() == b"mine" {
            planted += 1;
            let error = opened.unwrap_err();
            let early = error.is_corruption();
            assert!(early || matches!(error, crate::Error::AlreadyExists { .. }));
            let dir = scratch.path().parent().unwrap();
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2, "and the lock");
        } else {
            assert!(opened.is_ok(), "{opened:?}");
        }
    }
    assert!(planted > 20, "{planted}");
}

#[test]
fn a_cache_whose_creation_fails_behind_the_commit_keeps_its_files() {
    use crate::sync::failpoint;
    let mut failed = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let roster = path.with_file_name("cache.roster");
        let in_the_way = roster.clone();
        failpoint::interrupt(steps, move || {
            if path.exists() && !in_the_way.exists() {
                std::fs::create_dir(in_the_way).unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if failpoint::clear() {
            break;
        }
        if opened.is_err() {
            failed += 1;
            std::fs::remove_dir(roster).unwrap();
        }
        let cache = scratch.open(&tiny());
        cache.put(b"k", b"v").unwrap();
        assert_clean(&cache);
    }
    assert!(failed > 0);
}

#[test]
fn somebody_who_creates_a_cache_is_waited_for_no_longer_than_the_lock_timeout() {
    use std::time::Duration;
    let scratch = Scratch::new();
    let mut options = tiny();
    options.lock_timeout(Some(Duration::from_millis(20)));
    let names = crate::os::files::Names::resolve(scratch.path(), None).unwrap();
    let creating = handle::lock_creation(&names, &options).unwrap();
    let refused = options.open(scratch.path()).unwrap_err();
    assert!(matches!(refused, crate::Error::Locked { .. }), "{refused}");
    drop(creating);
    assert!(scratch.open(&options).is_empty());
}
