// The floor with io_uring: one io_uring_enter a turn, which submits all sends and waits for what comes next.
//
//   floor_uring PORT SERVER_PORT [single] [poll-first]
//
// Sockets are read by multishot receives, armed once, into a ring of buffers that the kernel takes from; what came is
// sent out of the same buffer. `single`: a receive is armed anew after each message, in the same call as the sends.
// `poll-first`: it does not try to read when it is armed, where there is nothing yet, but waits at once.
//
// Sends are told not to wait. So each is done when the call that submitted it begins to wait, and to wait for one
// completion more than there are sends is to wait for the first news. Without that, every other call would come back at
// once with nothing but completed sends. What a socket did not take is sent once more, then with patience.

#include <deque>
#include <liburing.h>
#include <string_view>
#include <vector>

#include "tests/bench/floor/floor.hpp"

namespace tessera::bench {
namespace {

constexpr unsigned submissions = 2048;
constexpr unsigned completions = 8192;
// Few, for they go round: each of them in turn has to be in the processor's caches.
constexpr unsigned buffers = 256;
constexpr unsigned buffer_size = 16384;
constexpr unsigned descriptors = 8192;

struct Pair;

struct Side {
  int fd = -1;
  Side* peer = nullptr;
  Pair* pair = nullptr;
  int in_kernel = 0;         // operations that will still complete; until then the side must stay
  unsigned buffer = 0;       // of the impatient send
  std::string_view sending;  // one send at a time, for they must not overtake each other
  std::string backlog, patient;
};

struct Pair {
  Side client, server;
  bool dead = false;
};

// In the low bits of what a completion carries, beside the address of its side.
enum Kind : std::uintptr_t { accepted, received, sent, patiently_sent, kinds = 3 };
static_assert(alignof(Side) > kinds);

class Forwarder {
public:
  Forwarder(std::uint16_t port, std::uint16_t server_port, bool multishot, bool poll_first)
      : server_port_(server_port), listener_(listen_on(port)), multishot_(multishot), poll_first_(poll_first) {
    io_uring_params parameters{};
    parameters.flags =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE;
    parameters.cq_entries = completions;
    succeeded(::io_uring_queue_init_params(submissions, &ring_, &parameters), "io_uring_setup");
    succeeded(::io_uring_register_ring_fd(&ring_) == 1 ? 0 : -EINVAL, "io_uring_register_ring_fd");
    succeeded(::io_uring_register_files_sparse(&ring_, descriptors), "io_uring_register_files");
    make_buffers();
    arm_accept();
  }

  [[noreturn]] void run() {
    for (;;) {
      const int submitted = ::io_uring_submit_and_wait(&ring_, impatient_sends_ + 1);
      if (submitted < 0 && submitted != -EINTR) give_up("io_uring_enter", -submitted);
      unsigned head = 0;
      unsigned count = 0;
      io_uring_cqe* completion = nullptr;
      io_uring_for_each_cqe(&ring_, head, completion) {
        on_completion(*completion);
        ++count;
      }
      ::io_uring_cq_advance(&ring_, count);
      arm_starved();
    }
  }

private:
  static void succeeded(int result, const char* what) {
    if (result < 0) give_up(what, -result);
  }

  void make_buffers() {
    const std::size_t ring_size = buffers * sizeof(io_uring_buf);
    const std::size_t page = 4096;
    buffer_ring_ = static_cast<io_uring_buf_ring*>(std::aligned_alloc(page, ring_size));
    memory_ = static_cast<char*>(std::aligned_alloc(page, std::size_t{buffers} * buffer_size));
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(buffer_ring_);
    registration.ring_entries = buffers;
    ::io_uring_buf_ring_init(buffer_ring_);
    succeeded(::io_uring_register_buf_ring(&ring_, &registration, 0), "io_uring_register_buf_ring");
    for (unsigned i = 0; i < buffers; ++i) give_back(i);
  }

  char* bytes_of(unsigned buffer) { return memory_ + std::size_t{buffer} * buffer_size; }

  void give_back(unsigned buffer) {
    ::io_uring_buf_ring_add(buffer_ring_, bytes_of(buffer), buffer_size, static_cast<unsigned short>(buffer),
                            ::io_uring_buf_ring_mask(buffers), 0);
    ::io_uring_buf_ring_advance(buffer_ring_, 1);
    ++free_buffers_;
  }

  io_uring_sqe& submission(Side* side, Kind kind) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      ::io_uring_submit(&ring_);
      entry = ::io_uring_get_sqe(&ring_);
    }
    if (entry == nullptr) give_up("io_uring_get_sqe", EBUSY);
    // The calls that prepare an entry leave this field alone.
    entry->user_data = reinterpret_cast<std::uintptr_t>(side) | kind;
    if (side != nullptr) ++side->in_kernel;
    return *entry;
  }

  void arm_accept() {
    io_uring_sqe& entry = submission(nullptr, accepted);
    ::io_uring_prep_multishot_accept(&entry, listener_, nullptr, nullptr, SOCK_CLOEXEC);
  }

  void arm_receive(Side& side) {
    io_uring_sqe& entry = submission(&side, received);
    if (multishot_) {
      ::io_uring_prep_recv_multishot(&entry, side.fd, nullptr, 0, 0);
    } else {
      ::io_uring_prep_recv(&entry, side.fd, nullptr, buffer_size, 0);
    }
    entry.flags |= IOSQE_BUFFER_SELECT | IOSQE_FIXED_FILE;
    if (poll_first_) entry.ioprio |= IORING_RECVSEND_POLL_FIRST;
  }

  void send(Side& side, std::string_view bytes, Kind kind) {
    side.sending = bytes;
    io_uring_sqe& entry = submission(&side, kind);
    ::io_uring_prep_send(&entry, side.fd, bytes.data(), bytes.size(),
                         MSG_NOSIGNAL | (kind == patiently_sent ? MSG_WAITALL : MSG_DONTWAIT));
    entry.flags |= IOSQE_FIXED_FILE;
    if (kind == sent) ++impatient_sends_;
  }

  // Receives that ended because all buffers were full.
  void arm_starved() {
    if (free_buffers_ == 0) return;
    std::vector<Side*> sides;
    sides.swap(starved_);
    for (Side* side : sides) {
      --side->in_kernel;
      if (!side->pair->dead) arm_receive(*side);
      reap(*side->pair);
    }
  }

  void on_completion(const io_uring_cqe& completion) {
    const auto kind = static_cast<Kind>(completion.user_data & kinds);
    auto* side = reinterpret_cast<Side*>(completion.user_data & ~std::uintptr_t{kinds});
    if (kind == accepted) {
      if (completion.res >= 0) on_accepted(completion.res);
      if ((completion.flags & IORING_CQE_F_MORE) == 0) arm_accept();
      return;
    }
    if (kind == received) {
      on_received(*side, completion);
    } else {
      if (kind == sent) {
        --impatient_sends_;
        keep_rest(*side, completion.res);
        give_back(side->buffer);
      } else {
        keep_rest(*side, completion.res);
      }
      --side->in_kernel;
      if (!side->pair->dead && !side->backlog.empty()) send_backlog(*side);
    }
    reap(*side->pair);
  }

  void on_accepted(int client) {
    const int server = connect_to(server_port_);
    if (server < 0) {
      ::close(client);
      return;
    }
    send_at_once(client);
    auto* pair = new Pair;
    pair->client = {.fd = client, .peer = &pair->server, .pair = pair};
    pair->server = {.fd = server, .peer = &pair->client, .pair = pair};
    for (Side* side : {&pair->client, &pair->server}) {
      // A descriptor stands under its own number: the kernel then need not count who uses it.
      const auto place = static_cast<unsigned>(side->fd);
      succeeded(::io_uring_register_files_update(&ring_, place, &side->fd, 1), "io_uring_register_files_update");
      arm_receive(*side);
    }
  }

  void on_received(Side& side, const io_uring_cqe& completion) {
    const bool armed = (completion.flags & IORING_CQE_F_MORE) != 0;
    if (!armed) --side.in_kernel;
    if ((completion.flags & IORING_CQE_F_BUFFER) != 0) {
      const unsigned buffer = completion.flags >> IORING_CQE_BUFFER_SHIFT;
      --free_buffers_;
      if (completion.res > 0) {
        pass_on(*side.peer, buffer, static_cast<unsigned>(completion.res));
      } else {
        give_back(buffer);
      }
    }
    if (completion.res == -ENOBUFS) {
      starve(side);
    } else if (completion.res <= 0) {
      end(*side.pair);
    } else if (!armed && !side.pair->dead) {
      arm_receive(side);
    }
  }

  void starve(Side& side) {
    ++side.in_kernel;  // it stands in a list
    starved_.push_back(&side);
  }

  // What a slow reader does not take piles up: to hold its peer back, a receive that stays armed would have to be
  // cancelled, and what has come until then be kept all the same. A proxy would have to do that; here it costs nobody.
  void pass_on(Side& to, unsigned buffer, unsigned size) {
    const std::string_view bytes(bytes_of(buffer), size);
    if (!to.pair->dead && to.sending.empty()) {
      to.buffer = buffer;
      send(to, bytes, sent);
      return;
    }
    to.backlog.append(bytes);
    give_back(buffer);
  }

  // A buffer goes back to the ring as soon as its bytes have been tried, lest slow readers hold them all.
  void keep_rest(Side& side, int result) {
    if (result < 0 && result != -EAGAIN) end(*side.pair);
    side.backlog.insert(0, side.sending.substr(result > 0 ? static_cast<std::size_t>(result) : 0));
    side.sending = {};
  }

  void send_backlog(Side& side) {
    side.patient.swap(side.backlog);
    side.backlog.clear();
    send(side, side.patient, patiently_sent);
  }

  // What waits in the kernel on a socket that is shut down completes.
  void end(Pair& pair) {
    if (pair.dead) return;
    pair.dead = true;
    ::shutdown(pair.client.fd, SHUT_RDWR);
    ::shutdown(pair.server.fd, SHUT_RDWR);
  }

  void reap(Pair& pair) {
    if (!pair.dead || pair.client.in_kernel + pair.server.in_kernel > 0) return;
    for (Side* side : {&pair.client, &pair.server}) {
      const int none = -1;
      ::io_uring_register_files_update(&ring_, static_cast<unsigned>(side->fd), &none, 1);
      ::close(side->fd);
    }
    delete &pair;
  }

  std::uint16_t server_port_;
  int listener_;
  bool multishot_, poll_first_;
  io_uring ring_{};
  io_uring_buf_ring* buffer_ring_ = nullptr;
  char* memory_ = nullptr;
  unsigned free_buffers_ = 0;
  unsigned impatient_sends_ = 0;
  std::vector<Side*> starved_;
};

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  using namespace tessera::bench;
  bool multishot = true;
  bool poll_first = false;
  bool known = argc >= 3;
  for (int i = 3; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "single") {
      multishot = false;
    } else if (word == "poll-first") {
      poll_first = true;
    } else {
      known = false;
    }
  }
  if (!known) {
    std::fputs("usage: floor_uring PORT SERVER_PORT [single] [poll-first]\n", stderr);
    return 2;
  }
  static Forwarder forwarder(port_of(argv[1]), port_of(argv[2]), multishot, poll_first);
  forwarder.run();
}
