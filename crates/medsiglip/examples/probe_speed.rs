//! Fits every task at every C and says how long it took, for `scripts/bench_probe.py`.
//!
//!     cargo run --release --example probe_speed -- FEATURES.npy LABELS.npy OUTPUT.json [TOL [TASKS]]
use std::time::Instant;

use medsiglip::probe::{Features, Settings, Solver, Task, default_cs};

fn read<T: npyz::Deserialize>(path: &str) -> (Vec<u64>, Vec<T>) {
    let file = npyz::NpyFile::new(std::fs::File::open(path).unwrap()).unwrap();
    (file.shape().to_vec(), file.into_vec().unwrap())
}

fn main() -> medsiglip::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (shape, x) = read::<f32>(&args[0]);
    let (of_labels, y) = read::<u8>(&args[1]);
    let columns = of_labels[1] as usize;
    let number = |at: usize| args.get(at).map(|text| text.parse::<f64>().unwrap());
    let tasks = number(4).map_or(columns, |tasks| tasks as usize);
    let tasks: Vec<Task> = (0..tasks)
        .map(|task| {
            Task::new(
                2,
                y.iter()
                    .skip(task)
                    .step_by(columns)
                    .map(|y| usize::from(*y))
                    .collect(),
            )
        })
        .collect::<Result<_, _>>()?;
    let settings = Settings {
        tol: number(3).unwrap_or(1e-6),
        accept_unconverged: true,
        ..Settings::default()
    };
    let start = Instant::now();
    let solver = Solver::new(Features::f32(shape[1] as usize, x)?, &settings)?;
    let prepared = start.elapsed().as_secs_f64();
    let fits = solver.fit_path(&tasks, &default_cs())?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{seconds:.2} s on {} threads, {prepared:.2} s of it for the basis",
        rayon::current_num_threads()
    );
    for (task, fits) in fits.iter().enumerate() {
        for fit in fits {
            println!(
                "task {task} C {:.1e}: objective {:.9e} gap {:.1e} after {} passes, {} polishing steps",
                fit.c, fit.objective, fit.gap, fit.n_iter, fit.polish_steps
            );
        }
    }
    std::fs::write(
        &args[2],
        serde_json::json!({"seconds": seconds, "fits": fits}).to_string(),
    )
    .unwrap();
    Ok(())
}
