// expect: or the objective what the noisifier makes
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

struct TwoHeads : torch::nn::Module {
  at::Tensor forward(const at::Tensor& x, const at::Tensor&) { return at::cat({x, x}, 1); }
};

void wrong(TwoHeads& net, const at::Tensor& data) {
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), {}, fm::FlowAndScoreLoss(1));
  trainer.fit(fm::TensorBatches(data, 16));
}
