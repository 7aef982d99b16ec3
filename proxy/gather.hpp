// Asks every worker a question on its own thread and brings the answers together: the only way to read what lives on
// workers' threads. Nobody blocks: `done` is called once, on the thread of the worker that answers last, so it must
// only pass the answers on (to an event loop of its own). Should a worker end first, `done` is destroyed without having
// been called.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "proxy/server.hpp"

namespace tessera::proxy {

template <typename Answer>
void gather(Server& server, std::function<Answer(Worker&)> ask,
            std::move_only_function<void(std::vector<Answer>)> done) {
  struct Round {
    std::mutex mutex;  // guards answers
    std::vector<Answer> answers;
    std::size_t expected = 0;
    std::function<Answer(Worker&)> ask;
    std::move_only_function<void(std::vector<Answer>)> done;
  };
  auto round = std::make_shared<Round>();
  round->expected = server.workers().size();
  round->ask = std::move(ask);
  round->done = std::move(done);
  for (const auto& worker : server.workers())
    worker->loop().post([round, raw = worker.get()] {
      Answer answer = round->ask(*raw);
      {
        const std::scoped_lock lock(round->mutex);
        round->answers.push_back(std::move(answer));
        if (round->answers.size() < round->expected) return;
      }
      round->done(std::move(round->answers));
    });
}

}  // namespace tessera::proxy
