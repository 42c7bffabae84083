// Weights and a sampler are all that a program needs that only draws: no header of train/ is
// included here.
//   inference_only [weights.pt] [out.png]

#include <c10/util/Exception.h>

#include <exception>
#include <filesystem>
#include <iostream>

#include "examples/fashion_mnist/unet.hpp"
#include "examples/support/picture.hpp"
#include "flowmatch/model/state_dict.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/sample/sampler.hpp"

namespace fm = flowmatch;

int main(int argc, char** argv) {
  try {
    const std::filesystem::path weights =
        argc > 1 ? argv[1] : FLOWMATCH_SOURCE_DIR "/examples/models/fashion-mnist-flow/model.pt";
    const std::filesystem::path out = argc > 2 ? argv[2] : "clothes.png";

    // The default recipe's network, which is written beside the weights.
    const fashion_mnist::UNetOptions shape{.widths = {16, 32, 64}, .blocks = 1, .time_scale = 1000};
    fashion_mnist::UNet net(shape);
    fm::load_state_dict(*net, fm::read_state_dict(weights));

    fm::Sampler sampler(net, fm::ode::Midpoint{}, fm::TimeGrid::uniform(10));
    fm::Rng rng(7);
    const at::Tensor classes = at::arange(40, at::kLong).remainder(10);
    const at::Tensor x = sampler.sample({40, 1, 28, 28}, rng, classes);

    support::write_png(out, support::image_grid(x, 10));
    std::cout << "wrote " << out.string() << '\n';
    return 0;
  } catch (const c10::Error& error) {
    std::cerr << "inference_only: " << error.what_without_backtrace() << '\n';
  } catch (const std::exception& error) {
    std::cerr << "inference_only: " << error.what() << '\n';
  }
  return 1;
}
