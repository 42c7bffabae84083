# The example programs, run small; and what they say to bad input.
if(NOT FLOWMATCH_BUILD_EXAMPLES)
  return()
endif()

set(_work "${CMAKE_CURRENT_BINARY_DIR}/run")
file(MAKE_DIRECTORY "${_work}")

# flowmatch_expect(NAME EXIT REGEX program arguments…), run in a folder of the tests'.
function(flowmatch_expect name exit regex program)
  add_test(NAME "${name}"
           COMMAND ${CMAKE_COMMAND} -DEXIT=${exit} "-DMATCH=${regex}" -P "${CMAKE_CURRENT_SOURCE_DIR}/support/expect.cmake" --
                   "$<TARGET_FILE:${program}>" ${ARGN}
           WORKING_DIRECTORY "${_work}")
  set_tests_properties("${name}" PROPERTIES ENVIRONMENT "${_environment}" TIMEOUT 150 LABELS examples)
endfunction()

flowmatch_expect("run/toy_2d" 0 "checkerboard  loss .*log-likelihood -[0-9.]+ .at most -3\\.6765.*wrote toy.png" toy_2d --steps 60 --out toy.png)
flowmatch_expect("run/toy_2d density" 0 "integral of the density (0\\.9|1\\.0)" toy_2d --steps 300 --data moons --density
                 --out density.png)
flowmatch_expect("run/toy_2d field" 0 "wrote toy-2.png.*wrote field.png" toy_2d --steps 60 --data moons --out toy-2.png --field
                 field.png)
flowmatch_expect("run/draw_square" 0 "wrote drawing.png" draw_square --out drawing.png)
flowmatch_expect("run/custom_path" 0 "radius of the samples (0\\.9|1\\.0)" custom_path)
flowmatch_expect("run/image_folder" 0 "72 images, 16 x 16 pixels, 2 classes.*wrote folder/samples.png" image_folder --out folder
                 --epochs 2)
flowmatch_expect("run/inference_only" 0 "wrote clothes.png" inference_only)
foreach(_snippets IN ITEMS readme post guide metrics python vocabulary)
  add_executable(snippets_${_snippets} ${PROJECT_SOURCE_DIR}/examples/snippets/${_snippets}.cpp)
  flowmatch_own(snippets_${_snippets})
endforeach()
target_link_libraries(snippets_post PRIVATE flowmatch_fashion_mnist)
flowmatch_expect("snippets/readme" 0 "mean (1\\.9|2\\.0)" snippets_readme)
flowmatch_expect("snippets/post" 0 "path agrees" snippets_post)
flowmatch_expect("snippets/guide" 0 "x\\(1\\) = 0\\.6065" snippets_guide)
flowmatch_expect("snippets/python" 0 "missing: 0.weight" snippets_python)
flowmatch_expect("snippets/metrics" 0 "Frechet 0\\.1" snippets_metrics)
flowmatch_expect("snippets/vocabulary" 0 "solved: 10, 10" snippets_vocabulary)
add_test(NAME "snippets/the pages show what is compiled"
         COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -P "${CMAKE_CURRENT_SOURCE_DIR}/support/check_snippets.cmake")

# Train, refuse to overwrite, resume, refuse to resume with other options, sample: on 64 images.
set(_train fashion_mnist_train --model small --limit 64 --batch 32 --threads 1 --data ${PROJECT_SOURCE_DIR}/examples/data/fashion-mnist)
add_test(NAME "run/train leaves its records"
         COMMAND ${CMAKE_COMMAND} -DFOLDER=${_work}/run -P "${CMAKE_CURRENT_SOURCE_DIR}/support/expect_records.cmake")
add_test(NAME "run/forget the last run" COMMAND ${CMAKE_COMMAND} -E rm -rf "${_work}/run" "${_work}/ddim" "${_work}/default" "${_work}/judge" "${_work}/benchmark"
         "${_work}/matched" "${_work}/watched" "${_work}/dropped" "${_work}/mean" "${_work}/tuned" "${_work}/held" "${_work}/end-alone")
flowmatch_expect("run/train" 0 "epoch 1/1 done" ${_train} --epochs 1 --out run)
flowmatch_expect("run/train over a run" 2 "holds a run already" ${_train} --epochs 1 --out run)
flowmatch_expect("run/train resumed" 0 "resuming at step 2" ${_train} --epochs 1 --out run --resume)
flowmatch_expect("run/train resumed with other options" 2 "learning_rate: " ${_train} --epochs 1 --out run --resume --lr 1e-3)
flowmatch_expect("run/train ddim" 0 "epoch 1/1 done" ${_train} --epochs 1 --out ddim --method ddim)
flowmatch_expect("run/train from a run" 0 "epoch 1/1 done" ${_train} --epochs 1 --out tuned --from run --lr 1e-3)
flowmatch_expect("run/train with statistics held" 0 "epoch 1/1 done" ${_train} --epochs 1 --out held --from run --hold-batch-norm
                 --accumulate 2)
flowmatch_expect("run/train from a run of another method" 2 "another network, method or pixels" ${_train} --out bad --from ddim)
flowmatch_expect("run/train watched" 0 "training flow by a UNet of widths 16, 32, 64, 128 on 48 images.*validation loss [0-9.]+" ${_train} --epochs 1
                 --out watched --validate 16 --patience 1 --tensorboard)
add_test(NAME "run/train watched leaves its records"
         COMMAND ${CMAKE_COMMAND} -DFOLDER=${_work}/watched -P "${CMAKE_CURRENT_SOURCE_DIR}/support/expect_watched.cmake")
# The default recipe's network is another one, with its own pixels.
set(_default fashion_mnist_train --limit 64 --validate 16 --epochs 1 --threads 1
    --data ${PROJECT_SOURCE_DIR}/examples/data/fashion-mnist)
flowmatch_expect("run/train default" 0 "widths [0-9]+, [0-9]+, [0-9]+ on 48 images.*the end: 48 images, 32 at a time.*epoch 1/1 done"
                 ${_default} --batch 16 --end-batch 32 --out default)
flowmatch_expect("run/train default resumed" 0 "resuming at step 3.*the end: .*resuming at step 2" ${_default} --batch 16 --end-batch 32
                 --out default --resume)
# The end is a run like any other, from the averaged weights on; programs that are given the run take it.
flowmatch_expect("run/train the end alone" 0 "epoch 1/1 done" ${_default} --end-images 0 --batch 32 --lr 1e-3 --ema 0.998
                 --from default/step-000000003 --out end-alone)
add_test(NAME "run/the end alone is the same" COMMAND ${CMAKE_COMMAND} -E compare_files "${_work}/default/end/step-000000002/ema.pt"
         "${_work}/end-alone/step-000000002/ema.pt")
flowmatch_expect("run/export default" 0 "wrote default.safetensors" fashion_mnist_export --checkpoint default --out default.safetensors)
flowmatch_expect("run/export the end" 0 "wrote end.safetensors" fashion_mnist_export --checkpoint default/end --out end.safetensors)
add_test(NAME "run/default is its end" COMMAND ${CMAKE_COMMAND} -E compare_files "${_work}/default.safetensors" "${_work}/end.safetensors")
flowmatch_expect("run/sample default" 0 "7 evaluations a sample" fashion_mnist_sample --checkpoint default --n 4 --steps 3
                 --solver heun2 --shift 2 --last-step 0.1 --out samples.npy)
foreach(_order IN ITEMS 1 2)
  flowmatch_expect("run/sample dpm_solver_${_order}" 0 "4 evaluations a sample" fashion_mnist_sample --checkpoint default --n 4
                   --steps 4 --solver dpm_solver_${_order} --eta 0.5 --shift 2 --out samples.npy)
endforeach()
# Guidance, mean flows, and a teacher.
set(_brief fashion_mnist_train --limit 32 --epochs 1 --batch 16 --end-images 0 --threads 1
    --data ${PROJECT_SOURCE_DIR}/examples/data/fashion-mnist)
flowmatch_expect("run/train with labels dropped" 0 "epoch 1/1 done" ${_brief} --drop-labels 0.5 --out dropped)
flowmatch_expect("run/train a mean flow" 0 "training mean_flow .*that of the teacher.*epoch 1/1 done" ${_brief} --method mean_flow
                 --from default --teacher dropped --guidance 1.5 --out mean)
flowmatch_expect("run/sample a mean flow" 0 "1 evaluations a sample" fashion_mnist_sample --checkpoint mean --n 4 --steps 1 --out
                 samples.npy)
flowmatch_expect("run/match" 0 "a step costs 2.50 times.*epoch 1/1 done" fashion_mnist_match --student mean --teacher dropped
                 --guidance 2 --guidance-interval 0,0.5 --limit 32 --batch 16 --threads 1 --out matched
                 --data ${PROJECT_SOURCE_DIR}/examples/data/fashion-mnist)
flowmatch_expect("run/sample a matched generator" 0 "1 evaluations a sample" fashion_mnist_sample --checkpoint matched --n 4
                 --steps 1 --out samples.npy)
flowmatch_expect("bad input/match no mean flow" 2 "give one of mean_flow" fashion_mnist_match --student dropped --teacher dropped
                 --out matched_too)
flowmatch_expect("run/sample guided" 0 "8 evaluations a sample" fashion_mnist_sample --checkpoint dropped --n 4 --steps 4
                 --guidance 2 --out samples.npy)
flowmatch_expect("run/sample away from a worse run" 0 "8 evaluations a sample" fashion_mnist_sample --checkpoint default --n 4
                 --steps 4 --solver unipc_2 --grid karras --guidance 1.5 --worse dropped --out samples.npy)
flowmatch_expect("bad input/guidance without a worse velocity" 2 "name a worse run" fashion_mnist_sample --checkpoint default
                 --n 4 --guidance 2 --out samples.npy)
flowmatch_expect("bad input/a worse run of other pictures" 2 "another size or range" fashion_mnist_sample --checkpoint default
                 --n 4 --guidance 2 --worse run --out samples.npy)
flowmatch_expect("run/sample npy" 0 "4 evaluations a sample" fashion_mnist_sample --checkpoint run --n 4 --steps 2
                 --solver midpoint --out samples.npy)
flowmatch_expect("run/sample pictures" 0 "wrote 10 samples" fashion_mnist_sample --checkpoint run --n 10 --steps 2 --out
                 samples.png --trajectory strip.png --class 3)
flowmatch_expect("run/sample animation" 0 "wrote 12 samples" fashion_mnist_sample --checkpoint run --n 12 --steps 3 --out
                 samples.png --animation animation.png)
flowmatch_expect("run/sample dopri5" 0 "evaluations a sample" fashion_mnist_sample --checkpoint run --n 2 --solver dopri5
                 --rtol 0.1 --atol 0.1 --out samples.npy)
flowmatch_expect("run/sample ddim" 0 "3 evaluations a sample" fashion_mnist_sample --checkpoint ddim --n 2 --steps 3 --out
                 samples.npy)
flowmatch_expect("run/compare" 0 "lines of sampling code: flow [0-9]+ against DDIM [0-9]+" fashion_mnist_compare --flow
                 run --ddim ddim --n 10 --steps 3 --out compare.png)
flowmatch_expect("run/benchmark" 0 "ddim-fair-eta-0-1-seed-2 .* 1 evaluations .* FID .*wrote benchmark/table.md" fashion_mnist_benchmark
                 --flow run --ddim ddim --n 1000 --evaluations 1 --only "euler,ddim fair eta 0" --seeds 1,2 --out benchmark)
flowmatch_expect("run/benchmark with other samples" 2 "has euler-1-seed-1 with another samples" fashion_mnist_benchmark
                 --flow run --ddim ddim --n 1001 --evaluations 1 --only euler --seeds 1 --out benchmark)
flowmatch_expect("run/likelihood" 0 "bits per dimension" fashion_mnist_likelihood --n 2 --tolerance 0.05 --threads 1)
flowmatch_expect("run/inpaint" 0 "middle: [0-9.]+ % of the fillings.*half the size: [0-9.]+ %.*wrote inpainted.png" fashion_mnist_inpaint
                 --n 2 --fillings 2 --steps 2 --threads 1 --out inpainted.png)
flowmatch_expect("run/velocity error" 0 "run +0 +[0-9.]+ .*run +0\\.5 +[0-9.]+ +[0-9.]+.*ddim +0\\.5 .*wrote error.svg"
                 fashion_mnist_velocity_error --checkpoint run ddim --n 20 --times 0,0.5 --out error.svg)
# What it would replace is its own, or it is refused.
file(WRITE "${_work}/thesis/model.pt" "keep me")
flowmatch_expect("bad input/export over another folder" 2 "thesis is there and no earlier export" fashion_mnist_export
                 --checkpoint run --out thesis)
flowmatch_expect("bad input/export over a run" 2 "run/../run" fashion_mnist_export --checkpoint run --out run/../run)
flowmatch_expect("bad input/export of an unknown kind" 2 "choose .safetensors, .pt, or the name of a folder" fashion_mnist_export
                 --checkpoint run --out weights.npz)
flowmatch_expect("run/export" 0 "wrote exported" fashion_mnist_export --checkpoint run --half --out exported)
flowmatch_expect("run/export for Python" 0 "wrote for-python.safetensors" fashion_mnist_export --checkpoint run --out
                 for-python.safetensors)
flowmatch_expect("run/import from Python" 0 "wrote from-python" fashion_mnist_export --weights for-python.safetensors
                 --model small --out from-python)
flowmatch_expect("run/import of another network" 4 "missing: down0_1.conv1.norm.weight" fashion_mnist_export --weights
                 for-python.safetensors --model paper --out bad)
# A judge of one epoch on 64 images, and the one of the project on four samples of each class and a bit.
set(_evaluate fashion_mnist_evaluate --data ${PROJECT_SOURCE_DIR}/examples/data/fashion-mnist --threads 1)
flowmatch_expect("run/classifier" 0 "of the 10000 test images judged" fashion_mnist_classifier --limit 64 --epochs 1 --batch 32
                 --threads 1 --data ${PROJECT_SOURCE_DIR}/examples/data/fashion-mnist --out judge)
flowmatch_expect("run/classifier over a judge" 2 "is there already" fashion_mnist_classifier --limit 64 --out judge)
flowmatch_expect("run/evaluate a run" 0 "FID .*trained on the test images that it is judged by" ${_evaluate} --checkpoint run
                 --n 45 --steps 2 --json figures.json --pairs pairs.png)
flowmatch_expect("run/evaluate samples" 0 "judged as the class asked.*nearest test image, distance.*no training images" ${_evaluate}
                 --samples benchmark/euler-1-seed-1.npy)
flowmatch_expect("run/evaluate with the new judge" 0 "the judge was trained on the test images" ${_evaluate} --checkpoint run
                 --n 20 --steps 2 --judge judge)
# A page of the run, its figures and an animation; and of one of which there is less.
flowmatch_expect("run/report" 0 "wrote report.html, [0-9]+ kB" fashion_mnist_report --run run --evaluation figures.json --picture
                 animation.png --out report.html)
flowmatch_expect("run/report watched" 0 "wrote watched/report.html" fashion_mnist_report --run watched/)
flowmatch_expect("run/report default" 0 "wrote default.html" fashion_mnist_report --run default --out default.html)
add_test(NAME "run/report shows what it should"
         COMMAND ${CMAKE_COMMAND} -DFOLDER=${_work} -P "${CMAKE_CURRENT_SOURCE_DIR}/support/expect_report.cmake")
set_tests_properties("run/sample animation" PROPERTIES FIXTURES_REQUIRED run FIXTURES_SETUP animation RESOURCE_LOCK run)
set_tests_properties("run/report" PROPERTIES FIXTURES_REQUIRED "run;figures;animation" FIXTURES_SETUP report RESOURCE_LOCK run)
set_tests_properties("run/report default" PROPERTIES FIXTURES_REQUIRED default FIXTURES_SETUP report RESOURCE_LOCK default)
set_tests_properties("run/report watched" PROPERTIES FIXTURES_REQUIRED watched FIXTURES_SETUP report)
set_tests_properties("run/report shows what it should" PROPERTIES FIXTURES_REQUIRED report)
set_tests_properties("run/classifier" PROPERTIES FIXTURES_REQUIRED empty FIXTURES_SETUP judge)
set_tests_properties("run/classifier over a judge" PROPERTIES FIXTURES_REQUIRED judge)
set_tests_properties("run/evaluate a run" PROPERTIES FIXTURES_REQUIRED run FIXTURES_SETUP figures RESOURCE_LOCK run)
set_tests_properties("run/evaluate with the new judge" PROPERTIES FIXTURES_REQUIRED "run;judge" RESOURCE_LOCK run)
set_tests_properties("run/forget the last run" PROPERTIES FIXTURES_SETUP empty)
set_tests_properties("run/train" PROPERTIES FIXTURES_REQUIRED empty FIXTURES_SETUP run)
set_tests_properties("run/train ddim" PROPERTIES FIXTURES_REQUIRED empty FIXTURES_SETUP ddim)
set_tests_properties("run/train default" PROPERTIES FIXTURES_REQUIRED empty FIXTURES_SETUP default)
set_tests_properties("run/train default resumed" PROPERTIES FIXTURES_REQUIRED default RESOURCE_LOCK default)
set_tests_properties("run/train the end alone" PROPERTIES FIXTURES_REQUIRED default FIXTURES_SETUP end RESOURCE_LOCK default)
set_tests_properties("run/export default" "run/export the end" PROPERTIES FIXTURES_REQUIRED default FIXTURES_SETUP end RESOURCE_LOCK default)
set_tests_properties("run/the end alone is the same" "run/default is its end" PROPERTIES FIXTURES_REQUIRED end)
set_tests_properties("run/sample default" "run/sample dpm_solver_1" "run/sample dpm_solver_2" PROPERTIES FIXTURES_REQUIRED default)
set_tests_properties("run/train with labels dropped" PROPERTIES FIXTURES_REQUIRED empty FIXTURES_SETUP dropped)
set_tests_properties("run/train a mean flow" PROPERTIES FIXTURES_REQUIRED "default;dropped" FIXTURES_SETUP mean RESOURCE_LOCK default)
set_tests_properties("run/sample a mean flow" PROPERTIES FIXTURES_REQUIRED mean)
set_tests_properties("run/sample guided" PROPERTIES FIXTURES_REQUIRED dropped)
set_tests_properties("run/sample away from a worse run" PROPERTIES FIXTURES_REQUIRED "default;dropped")
set_tests_properties("bad input/guidance without a worse velocity" PROPERTIES FIXTURES_REQUIRED default)
set_tests_properties("bad input/a worse run of other pictures" PROPERTIES FIXTURES_REQUIRED "default;run" RESOURCE_LOCK run)
set_tests_properties("run/train from a run" "run/train with statistics held" PROPERTIES FIXTURES_REQUIRED run RESOURCE_LOCK run)
set_tests_properties("run/train from a run of another method" PROPERTIES FIXTURES_REQUIRED ddim)
set_tests_properties("run/train watched" PROPERTIES FIXTURES_REQUIRED empty FIXTURES_SETUP watched)
set_tests_properties("run/train watched leaves its records" PROPERTIES FIXTURES_REQUIRED watched)
set_tests_properties("run/train leaves its records" "run/train over a run" "run/train resumed" "run/train resumed with other options" "run/sample npy"
                     "run/sample pictures" "run/sample dopri5" "run/export" "run/export for Python" PROPERTIES FIXTURES_REQUIRED run RESOURCE_LOCK run)
set_tests_properties("run/sample ddim" PROPERTIES FIXTURES_REQUIRED ddim)
set_tests_properties("run/export for Python" PROPERTIES FIXTURES_SETUP for-python)
set_tests_properties("run/import from Python" "run/import of another network" PROPERTIES FIXTURES_REQUIRED for-python)
set_tests_properties("run/compare" "run/benchmark" PROPERTIES FIXTURES_REQUIRED "run;ddim")
set_tests_properties("run/benchmark" PROPERTIES FIXTURES_SETUP benchmark)
set_tests_properties("run/evaluate samples" PROPERTIES FIXTURES_REQUIRED benchmark)
set_tests_properties("run/benchmark with other samples" PROPERTIES FIXTURES_REQUIRED "run;ddim;benchmark")
set_tests_properties("run/velocity error" PROPERTIES FIXTURES_REQUIRED "run;ddim")

# Bad input: a message that says what is wrong, an exit code from 1 to 123, and nothing overwritten.
file(WRITE "${_work}/junk/train-images-idx3-ubyte.gz" "this is no gzip file")
file(WRITE "${_work}/junk/train-labels-idx1-ubyte.gz" "nor is this")
file(WRITE "${_work}/wrong-magic/train-images-idx3-ubyte" "this is no IDX file")
file(WRITE "${_work}/junk-checkpoint/manifest.txt" "junk")
file(WRITE "${_work}/a-file" "keep me")
flowmatch_expect("bad input/data that is no gzip" 3 "cannot be unpacked" fashion_mnist_train --out bad --data junk)
flowmatch_expect("bad input/data of another kind" 3 "not a usable IDX file" fashion_mnist_train --out bad --data wrong-magic)
flowmatch_expect("bad input/no data" 3 "there is neither" fashion_mnist_train --out bad --data nowhere)
flowmatch_expect("bad input/train without a folder" 2 "--out is required" fashion_mnist_train)
flowmatch_expect("bad input/train below a file" 3 "cannot make the folder" ${_train} --out a-file/run)
flowmatch_expect("bad input/learning rate of nan" 2 "learning_rate is" ${_train} --out bad --lr nan)
flowmatch_expect("bad input/negative learning rate" 2 "learning_rate is" ${_train} --out bad --lr -1)
flowmatch_expect("bad input/no epochs" 2 "epochs is 0" ${_train} --out bad --epochs 0)
flowmatch_expect("bad input/batch of 0" 2 "batch size of 0" fashion_mnist_train --model small --limit 64 --out bad
                 --batch 0)
flowmatch_expect("bad input/batch of 0 in the end" 2 "an end with a batch size of 0" ${_train} --out bad --end-batch 0)
flowmatch_expect("bad input/statistics that none has" 2 "name it with --from" ${_train} --out bad --hold-batch-norm)
flowmatch_expect("bad input/learning rate of the end" 2 "learning_rate is" ${_train} --out bad --end-images 64 --end-lr 0)
flowmatch_expect("bad input/no such device" 2 "no device" ${_train} --out bad --device quantum)
flowmatch_expect("bad input/no such model" 2 "--model" fashion_mnist_train --out bad --model huge)
flowmatch_expect("bad input/image size that cannot be halved" 2 "choose multiples of 8" ${_train} --out bad --size 28)
flowmatch_expect("bad input/groups that do not divide" 2 "groups that divide" ${_train} --out bad --groups 3)
flowmatch_expect("bad input/spread of times" 2 "finite stddev above 0" ${_train} --out bad --times logit_normal
                 --times-stddev 0)
flowmatch_expect("bad input/benchmark of few samples" 2 "means little" fashion_mnist_benchmark --flow run --ddim ddim --n 10)
flowmatch_expect("bad input/no fillings" 2 "at least 1 of the others" fashion_mnist_inpaint --fillings 0 --out bad.png)
flowmatch_expect("bad input/nothing to export" 2 "either --checkpoint or --weights" fashion_mnist_export --out bad)
flowmatch_expect("bad input/validate on all images" 2 "leaves none to train on" ${_train} --out bad --validate 64)
flowmatch_expect("bad input/patience without validation" 2 "some images to validate on" ${_train} --out bad --patience 2)
flowmatch_expect("bad input/no folder of images" 3 "cannot read the folder" image_folder --out bad --images nowhere)
set(_sample fashion_mnist_sample --out bad.npy --n 2)
flowmatch_expect("bad input/no checkpoint" 4 "there is no checkpoint" ${_sample} --checkpoint nowhere)
flowmatch_expect("bad input/junk as checkpoint" 4 "cannot be used" ${_sample} --checkpoint junk-checkpoint)
flowmatch_expect("bad input/unknown solver" 2 "there is no method" ${_sample} --solver rk9)
flowmatch_expect("bad input/ddim for a flow run" 2 "is for runs of --method ddim" ${_sample} --solver ddim)
flowmatch_expect("bad input/0 steps" 2 "steps is 0" ${_sample} --steps 0)
flowmatch_expect("bad input/tolerance of nan" 2 "rtol is" ${_sample} --solver dopri5 --rtol nan)
flowmatch_expect("bad input/negative tolerance" 2 "atol is" ${_sample} --solver dopri5 --atol -1)
flowmatch_expect("bad input/eta of nan" 2 "--eta is" ${_sample} --eta nan)
flowmatch_expect("bad input/negative seed" 2 "no whole number" ${_sample} --seed -1)
flowmatch_expect("bad input/seed beyond 64 bits" 2 "no whole number" ${_train} --out bad --seed 18446744073709551616)
flowmatch_expect("bad input/no samples" 2 "--n is 0" fashion_mnist_sample --out bad.npy --n 0)
flowmatch_expect("bad input/class 10" 2 "--class is" ${_sample} --class 10)
flowmatch_expect("bad input/post grid with midpoint" 2 "euler only" ${_sample} --grid post --solver midpoint)
flowmatch_expect("bad input/shift of 0" 2 "with shift 0" ${_sample} --shift 0)
flowmatch_expect("bad input/shift of an adaptive method" 2 "chooses its own" ${_sample} --shift 2 --solver dopri5)
flowmatch_expect("bad input/last step of 1" 2 "--last-step is 1" ${_sample} --last-step 1)
flowmatch_expect("bad input/output below a file" 3 "cannot" fashion_mnist_sample --n 2 --steps 1 --out a-file/x.npy)
file(WRITE "${_work}/pictures/00000.png" "keep me")
flowmatch_expect("bad input/pictures among others" 2 "holds pictures already" fashion_mnist_sample --n 2 --steps 1 --out pictures)
flowmatch_expect("bad input/samples of an unknown kind" 2 "choose .npy, .png, or" fashion_mnist_sample --n 2 --out bad.npz)
flowmatch_expect("bad input/one path twice" 2 "--out and --animation are both" fashion_mnist_sample --n 2 --out bad.png
                 --animation ./bad.png)
flowmatch_expect("bad input/field over the picture" 2 "--out and --field are both" toy_2d --out bad.png --field bad.png)
flowmatch_expect("bad input/weights that were not kept" 2 "no averaged weights" ${_sample} --weights ema)
flowmatch_expect("bad input/animation below a file" 3 "no file can be made" ${_sample} --animation a-file/x.png)
flowmatch_expect("bad input/animation of two batches" 2 "choose --n at most --batch" ${_sample} --batch 1 --animation bad.png)
flowmatch_expect("bad input/field below a file" 3 "no file can be made" toy_2d --out bad.png --field a-file/x.png)
flowmatch_expect("bad input/velocity error at the end" 2 "--times has 1; choose times in .0, 1." fashion_mnist_velocity_error
                 --checkpoint run --times 0,1 --out error.svg)
flowmatch_expect("bad input/velocity error of too many" 2 "--n is 20000; choose 1 to 10000" fashion_mnist_velocity_error
                 --checkpoint run --n 20000 --out error.svg)
flowmatch_expect("bad input/likelihood of one image" 2 "--n is 1" fashion_mnist_likelihood --n 1)
flowmatch_expect("bad input/likelihood without probes" 2 "probes is 0" fashion_mnist_likelihood --n 2 --probes 0)
flowmatch_expect("bad input/likelihood without tolerance" 2 "rtol . atol is 0" fashion_mnist_likelihood --n 2 --tolerance 0)
flowmatch_expect("bad input/no weights" 1 "cannot read" inference_only nowhere.pt)
flowmatch_expect("bad input/nothing to evaluate" 2 "give either --samples" ${_evaluate})
flowmatch_expect("bad input/evaluate labels of a run" 2 "--labels goes with --samples" ${_evaluate} --checkpoint run --labels x.npy)
flowmatch_expect("bad input/evaluate few samples" 2 "choose at least 10" ${_evaluate} --checkpoint run --n 9)
flowmatch_expect("bad input/evaluate no such file" 3 "cannot read" ${_evaluate} --samples nowhere.npy)
flowmatch_expect("bad input/evaluate junk" 3 "not a usable .npy file" ${_evaluate} --samples a-file)
flowmatch_expect("bad input/evaluate json below a file" 3 "no such folder" ${_evaluate} --samples a-file --json a-file/x.json)
flowmatch_expect("bad input/evaluate without a judge" 4 "cannot be used" ${_evaluate} --samples a-file --judge nowhere)
flowmatch_expect("bad input/classifier without epochs" 2 "--epochs is 0" fashion_mnist_classifier --out bad --epochs 0)
flowmatch_expect("bad input/classifier of nan" 2 "--lr is" fashion_mnist_classifier --out bad --lr nan)
file(WRITE "${_work}/other.json" "{\"program\": \"another\"}")
file(WRITE "${_work}/short.json" "{\"program\": \"fashion_mnist_evaluate\", \"origin\": {}}")
file(WRITE "${_work}/cut.json" "{\"program\": \"fashion_mnist_eval")
flowmatch_expect("bad input/report without a run" 2 "--run is required" fashion_mnist_report)
flowmatch_expect("bad input/report no such run" 4 "there is no run in nowhere; give the --out folder" fashion_mnist_report --run
                 nowhere)
flowmatch_expect("bad input/report no such evaluation" 3 "there is no file nowhere.json" fashion_mnist_report --run run --out
                 bad.html --evaluation nowhere.json)
flowmatch_expect("bad input/report cut evaluation" 3 "holds no evaluation.*make it again" fashion_mnist_report --run run --out
                 bad.html --evaluation cut.json)
flowmatch_expect("bad input/report half an evaluation" 3 "holds no evaluation.*make it again" fashion_mnist_report --run run
                 --out bad.html --evaluation short.json)
string(REPEAT "[" 1000 _deep)
file(WRITE "${_work}/deep.json" "${_deep}")
flowmatch_expect("bad input/report deep evaluation" 3 "is nested deeper" fashion_mnist_report --run run --out bad.html
                 --evaluation deep.json)
flowmatch_expect("bad input/report other evaluation" 3 "is of another program" fashion_mnist_report --run run --out bad.html
                 --evaluation other.json)
flowmatch_expect("bad input/report no picture" 3 "is no PNG picture" fashion_mnist_report --run run --out bad.html --picture
                 a-file)
flowmatch_expect("bad input/report below a file" 3 "cannot write" fashion_mnist_report --run run --out a-file/x.html)
set_tests_properties("bad input/report no such evaluation" "bad input/report cut evaluation" "bad input/report half an evaluation"
                     "bad input/report other evaluation" "bad input/report deep evaluation" "bad input/report no picture" "bad input/report below a file"
                     PROPERTIES FIXTURES_REQUIRED run RESOURCE_LOCK run)
