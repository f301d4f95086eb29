//! Many containers at once. Prints how long it took; timing never decides.

use crate::Case;
use crate::ground::{Ground, Outcome, expect, text};
use std::time::Instant;

pub const CASES: &[Case] = &[Case { name: "a_crowd_starts_and_leaves", run: crowd }];

/// Containers at once.
const CROWD: usize = 40;

fn crowd(ground: Ground) -> Outcome {
    let alone = Instant::now();
    let mut first = ground.start(ground.command("first", "sleep 1000; true"))?;
    println!("    one container created and started: {} ms", alone.elapsed().as_millis());
    ground.block(first.stop(0))?.map_err(text)?;
    ground.exited(&mut first)?;
    ground.clean("first")?;

    let before = Instant::now();
    let launches: Vec<_> =
        (0..CROWD).map(|n| ground.command(&format!("t{n}"), "sleep 1000; true")).collect();
    let runtime = ground.runtime.clone();
    let handles = ground.block(async move {
        let mut starting = tokio::task::JoinSet::new();
        for launch in launches {
            let runtime = runtime.clone();
            starting.spawn(async move {
                let handle = runtime.create(launch).await.map_err(text)?;
                handle.start().await.map_err(text)?;
                Ok::<_, String>(handle)
            });
        }
        starting.join_all().await
    })?;
    let mut handles = handles.into_iter().collect::<Outcome<Vec<_>>>()?;
    println!("    {CROWD} containers running: {} ms", before.elapsed().as_millis());
    let before = Instant::now();
    let ended = ground.block(async {
        for handle in &handles {
            handle.stop(0).await.map_err(text)?;
        }
        for handle in &mut handles {
            handle.wait().await;
        }
        for n in 0..CROWD {
            ground.runtime.clean(&format!("t{n}")).await.map_err(text)?;
        }
        Ok::<(), String>(())
    })?;
    println!("    all gone: {} ms", before.elapsed().as_millis());
    ended?;
    expect(ground.runtime.list().map_err(text)?.is_empty(), "nothing is listed")
}
