//! One suite for both databases, and what is special to each.
//!
//! Postgres is real: a server of its own for the test process, a database for each test.

mod act;
mod again;
mod bed;
mod bounds;
mod cancel;
mod claims;
mod clone;
mod decide;
mod durability;
mod excerpt;
mod flow;
mod heads;
mod keep;
mod model;
mod onward;
mod people;
mod postgres_only;
mod receive;
mod records;
mod repeat;
mod run_end;
mod runs;
mod server;
mod size;
mod starts;
mod turns;
mod waiting;
mod world;

/// Runs each named test on a fresh store of either kind.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::tests::bed::Bed::sqlite().await).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::tests::bed::Bed::postgres().await).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;
