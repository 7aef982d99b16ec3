// Streams over socket pairs, without a running loop: what is read, what is queued, and what happens when a peer is slow
// or gone.
#include "net/stream.hpp"

#include <gtest/gtest.h>

namespace tessera::net {
namespace {

// Bytes in which every shift and every gap shows.
std::string pattern(std::size_t size, unsigned seed = 1) {
  std::string bytes(size, '\0');
  unsigned state = seed;
  for (char& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

struct Nobody final : EventHandler {
  void on_ready(bool, bool) override {}
};

class StreamTest : public testing::Test {
protected:
  StreamTest() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    near_ = Stream(loop_, Descriptor(ends[0]));
    far_ = Stream(loop_, Descriptor(ends[1]));
  }
  static Stream::Status read_into(Stream& stream, std::string& got) {
    return stream.read([&](std::string_view bytes) {
      got.append(bytes);
      return true;
    });
  }
  EventLoop loop_;
  Stream near_{loop_, Descriptor()};
  Stream far_{loop_, Descriptor()};
};

TEST_F(StreamTest, WritesAtFlush) {
  near_.append("hello ");
  near_.out() += "world";
  std::string got;
  EXPECT_EQ(read_into(far_, got), Stream::Status::ok);
  EXPECT_EQ(got, "");
  EXPECT_EQ(near_.pending(), 11u);
  EXPECT_EQ(near_.flush(), Stream::Status::ok);
  EXPECT_TRUE(near_.drained());
  EXPECT_EQ(read_into(far_, got), Stream::Status::ok);
  EXPECT_EQ(got, "hello world");
  EXPECT_EQ(near_.bytes_out(), 11u);
  EXPECT_EQ(far_.bytes_in(), 11u);
}

TEST_F(StreamTest, WhatTheKernelDoesNotTakeWaits) {
  const std::string bytes = pattern(8 << 20);
  near_.append(bytes);
  EXPECT_EQ(near_.flush(), Stream::Status::ok);
  EXPECT_GT(near_.pending(), Stream::high_water);
  std::string got;
  int rounds = 0;
  while (got.size() < bytes.size() && ++rounds < 10'000) {
    ASSERT_EQ(read_into(far_, got), Stream::Status::ok);
    ASSERT_EQ(near_.pending() + near_.bytes_out(), bytes.size());
    ASSERT_EQ(near_.flush(), Stream::Status::ok);
  }
  EXPECT_GT(rounds, 2);
  EXPECT_TRUE(got == bytes);
  EXPECT_TRUE(near_.drained());
  EXPECT_LE(near_.out().capacity(), 1024u) << "an idle stream owns no large queue";
}

TEST_F(StreamTest, LargePiecesKeepTheirPlaceInTheStream) {
  std::string sent, got;
  unsigned seed = 0;
  // Small and large pieces in turn, also while the queue is stuck; read now and then.
  for (const std::size_t size : {10u, 5000u, 4095u, 4096u, 300'000u, 7u, 1'000'000u, 100u, 2'000'000u, 50'000u, 1u}) {
    const std::string piece = pattern(size, ++seed);
    if (size < 50)
      near_.append(piece);
    else
      EXPECT_EQ(near_.append_large(piece), Stream::Status::ok);
    sent += piece;
    if (seed % 3 == 0) EXPECT_EQ(read_into(far_, got), Stream::Status::ok);
    ASSERT_EQ(near_.pending() + near_.bytes_out(), sent.size());
  }
  for (int i = 0; i < 1000 && got.size() < sent.size(); ++i) {
    EXPECT_EQ(near_.flush(), Stream::Status::ok);
    EXPECT_EQ(read_into(far_, got), Stream::Status::ok);
  }
  EXPECT_TRUE(got == sent);
}

TEST_F(StreamTest, LargePiecesThatFitAreNotQueued) {
  EXPECT_EQ(near_.append_large(pattern(10'000)), Stream::Status::ok);
  EXPECT_EQ(near_.bytes_out(), 10'000u);
  EXPECT_EQ(near_.append_large("small"), Stream::Status::ok);
  EXPECT_EQ(near_.pending(), 5u) << "small ones wait for their turn's flush";
}

TEST_F(StreamTest, AReaderMayPause) {
  const std::string bytes = pattern(100'000 + 2 * EventLoop::read_buffer_size);
  near_.append(bytes);
  std::string got;
  int calls = 0;
  const auto one_piece = [&](std::string_view piece) {
    got.append(piece);
    ++calls;
    return false;
  };
  for (int i = 0; i < 100 && got.size() < bytes.size(); ++i) {
    EXPECT_EQ(near_.flush(), Stream::Status::ok);
    calls = 0;
    EXPECT_EQ(far_.read(one_piece), Stream::Status::ok);
    EXPECT_LE(calls, 1);
  }
  EXPECT_TRUE(got == bytes);
}

TEST_F(StreamTest, TheEndComesAfterTheLastBytes) {
  near_.append("last words");
  EXPECT_EQ(near_.flush(), Stream::Status::ok);
  near_.close();
  EXPECT_FALSE(near_.is_open());
  std::string got;
  EXPECT_EQ(read_into(far_, got), Stream::Status::closed);
  EXPECT_EQ(got, "last words");
  EXPECT_EQ(near_.flush(), Stream::Status::closed);
  EXPECT_EQ(read_into(near_, got), Stream::Status::closed);
}

TEST_F(StreamTest, WritingToAPeerThatIsGone) {
  far_.close();
  near_.append("x");
  EXPECT_EQ(near_.flush(), Stream::Status::closed) << "and no SIGPIPE";
  EXPECT_FALSE(near_.error().empty());
  EXPECT_EQ(near_.append_large(pattern(10'000)), Stream::Status::closed);
}

TEST_F(StreamTest, TheReaderMayCloseInTheMiddle) {
  near_.append(pattern(300'000));
  EXPECT_EQ(near_.flush(), Stream::Status::ok);
  int calls = 0;
  const auto status = far_.read([&](std::string_view) {
    ++calls;
    far_.close();
    return true;
  });
  EXPECT_EQ(status, Stream::Status::closed);
  EXPECT_EQ(calls, 1);
}

TEST_F(StreamTest, MovesToAnotherLoop) {
  Nobody nobody;
  ASSERT_TRUE(near_.open(nobody));
  EXPECT_FALSE(loop_.add(near_.descriptor(), nobody)) << "it is watched";
  near_.append("carried along");
  near_.detach(nobody);
  EventLoop other;
  ASSERT_TRUE(near_.rebind(other, nobody));
  EXPECT_EQ(near_.flush(), Stream::Status::ok);
  std::string got;
  EXPECT_EQ(read_into(far_, got), Stream::Status::ok);
  EXPECT_EQ(got, "carried along");
  EXPECT_TRUE(loop_.add(near_.descriptor(), nobody)) << "the first loop has let it go";
  loop_.remove(near_.descriptor(), nobody);
  near_.close();  // before the loop and the handler that it knows
}

// With a running loop: readiness is told once, so the end must be read in the same go as the bytes before it.
struct Reader final : EventHandler {
  Stream* stream = nullptr;
  EventLoop* loop = nullptr;
  std::string got;
  bool ended = false;
  int reads = 0;
  void on_ready(bool readable, bool) override {
    if (!readable) return;
    ++reads;
    const Stream::Status status = stream->read([this](std::string_view bytes) {
      got.append(bytes);
      return true;
    });
    ended = status != Stream::Status::ok;
    if (ended) {
      stream->close();
      loop->stop();
    }
  }
};

TEST_F(StreamTest, BytesAndTheEndInOneEvent) {
  Reader reader;
  reader.stream = &far_;
  reader.loop = &loop_;
  ASSERT_TRUE(far_.open(reader));
  near_.append("last words");
  EXPECT_EQ(near_.flush(), Stream::Status::ok);
  near_.close();
  loop_.set_ticker(std::chrono::seconds(5), [this] { loop_.stop(); });
  loop_.run();
  EXPECT_TRUE(reader.ended) << "else the connection would stand for ever";
  EXPECT_EQ(reader.got, "last words");
}

TEST_F(StreamTest, AReadOutsideOfItsEventSeesTheEndToo) {
  Reader reader;
  ASSERT_TRUE(far_.open(reader));
  near_.append("last words");
  EXPECT_EQ(near_.flush(), Stream::Status::ok);
  near_.close();
  std::string got;
  EXPECT_EQ(read_into(far_, got), Stream::Status::closed) << "as after a pause";
  EXPECT_EQ(got, "last words");
}

}  // namespace
}  // namespace tessera::net
