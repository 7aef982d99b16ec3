#include "net/send_batch.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <utility>

namespace tessera::net {

std::unique_ptr<SendBatch> SendBatch::open() {
  std::unique_ptr<SendBatch> batch(new SendBatch);
  // Newer kernels are told that one thread does it all, and when.
  constexpr unsigned submit_all = IORING_SETUP_SUBMIT_ALL;
  for (const unsigned flags : {submit_all | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, submit_all}) {
    io_uring_params params{};
    params.flags = flags;
    if (io_uring_queue_init_params(capacity, &batch->ring_, &params) == 0) return batch;
  }
  batch->ring_.ring_fd = -1;
  return nullptr;
}

SendBatch::~SendBatch() {
  if (ring_.ring_fd >= 0) io_uring_queue_exit(&ring_);
}

void SendBatch::add(int socket, std::string_view bytes) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {  // more than the capacity
    broken_ = true;
    return;
  }
  io_uring_prep_send(entry, socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  io_uring_sqe_set_data64(entry, count_++);
}

std::span<const int> SendBatch::send() {
  const unsigned count = std::exchange(count_, 0);
  std::fill_n(results_.begin(), count, -EAGAIN);
  int submitted = 0;
  do submitted = io_uring_submit_and_wait(&ring_, count);
  while (submitted == -EINTR);
  // All of them, or the rest would be sent with the next ones, when its bytes are others.
  if (submitted != static_cast<int>(count)) broken_ = true;
  for (int left = submitted; left > 0; --left) {
    io_uring_cqe* done = nullptr;
    int failed = 0;
    do failed = io_uring_wait_cqe(&ring_, &done);
    while (failed == -EINTR);
    if (failed != 0) {
      broken_ = true;
      break;
    }
    results_[io_uring_cqe_get_data64(done)] = done->res;
    io_uring_cqe_seen(&ring_, done);
  }
  return std::span(results_).first(count);
}

}  // namespace tessera::net
