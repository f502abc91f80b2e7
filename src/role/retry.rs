//! How long to wait between tries. Pure.

use std::time::Duration;

/// Doubles from 1 s to 60 s and stays there, for ever. `noise` in 0..1 takes up to a quarter off, so that machines that
/// lost one master together do not come back together.
pub fn wait(tries: u32, noise: f64) -> Duration {
    let seconds = 2f64.powi(tries.min(6) as i32).min(60.0);
    Duration::from_secs_f64((seconds * (1.0 - noise.clamp(0.0, 1.0) / 4.0)).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_one_second_to_a_minute() {
        let waits: Vec<f64> = [0, 1, 2, 5, 6, 7, u32::MAX].iter().map(|tries| wait(*tries, 0.0).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(wait(6, 1.0).as_secs_f64(), 45.0);
        assert_eq!(wait(0, 1.0).as_secs_f64(), 1.0);
    }
}
