pub mod rdma;
